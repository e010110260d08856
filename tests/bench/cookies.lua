-- wrk asks with the cookies of many clients in turn: `wrk -s cookies.lua URL -- FILE`, where FILE
-- has one Cookie field a line. With `close` behind FILE each request asks for the end of its connection.
local requests, next_request = {}, 0

function init(args)
  for cookie in io.lines(args[1]) do
    local fields = { Host = "app.test", Cookie = cookie, Connection = args[2] }
    requests[#requests + 1] = wrk.format("GET", "/", fields)
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end
