-- The time, which never steps back.

-- Returns the larger of the server's clock and `floor_ms`, Unix ms.
local function later_of(floor_ms)
  local time = redis.call('TIME')
  return math.max(time[1] * 1000 + math.floor(time[2] / 1000), floor_ms)
end
