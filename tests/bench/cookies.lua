-- wrk asks with the cookies of many clients in turn: `wrk -s cookies.lua URL -- FILE`, where FILE
-- has one Cookie field a line.
local requests, next_request = {}, 0

function init(args)
  for cookie in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", "/", { Host = "app.test", Cookie = cookie })
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end
