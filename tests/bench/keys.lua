-- wrk asks for one session key after the other: `wrk -s keys.lua URL -- PREFIX PAUSE_MS KEYS`.
-- Each connection pauses so long between its requests; of KEYS keys each is used again and again,
-- 0 means that every request brings a new one.
local prefix, pause_ms, keys, count = "", 0, 0, 0

function init(args)
  prefix, pause_ms, keys = args[1], tonumber(args[2]), tonumber(args[3])
  if pause_ms > 0 then
    math.randomseed(os.time())
    delay = function() return math.random(0, 2 * pause_ms) end
  end
end

function request()
  count = count + 1
  local number = keys > 0 and count % keys or count
  return "GET / HTTP/1.1\r\nHost: app.test\r\nX-Session: " .. prefix .. number .. "\r\n\r\n"
end
