-- Commit decisions of one partition. Each entry is fenced by itself: it counts only if this
-- consumer still owns it, it is still fresh where that matters, and its seq is new.
-- KEYS  frames, decisions, dead, then for each entry: camera_decisions, seen
-- ARGV  group, consumer, max decisions, max camera decisions, max dead letters,
--       then for each entry: id, decision, error, deadline in Unix ms, for_camera, seq hi, seq lo
--       ('' where one does not apply)
-- Returns for each entry one of the numbers below.
--
-- A script that fails half-way is not rolled back. So everything that can refuse comes before the
-- first write, and the frame is acked and deleted last: a failure leaves a frame that is tried
-- again, never one without a decision.
local COMMITTED, NOT_OWNER, REPLAYED, EXPIRED, BLOCKED = 1, 2, 3, 4, 5
local group, consumer = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_free(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == kind
end

local function commit(index)
  local camera_decisions, seen = KEYS[2 + 2 * index], KEYS[3 + 2 * index]
  local at = 7 * index - 2
  local id, decision, failure = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local deadline_ms, for_camera = tonumber(ARGV[at + 4]), ARGV[at + 5] ~= ''
  local hi, lo = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7])

  local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if not pending or pending[2] ~= consumer then return NOT_OWNER end
  if deadline_ms and now_ms > deadline_ms then return EXPIRED end
  if not (is_free(KEYS[2], 'stream') and is_free(KEYS[3], 'stream')
      and is_free(camera_decisions, 'stream') and is_free(seen, 'hash')) then
    return BLOCKED
  end
  local window = hi and advance(seen, hi, lo)
  if hi and not window then return REPLAYED end

  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'd', decision)
  if for_camera then
    redis.call('XADD', camera_decisions, 'MAXLEN', '~', ARGV[4], '*', 'd', decision)
  end
  if window then remember(seen, window) end
  if failure ~= '' then
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'd', decision, 'error', failure)
  end
  redis.call('XACK', KEYS[1], group, id)
  redis.call('XDEL', KEYS[1], id)
  return COMMITTED
end

local results = {}
for index = 1, (#ARGV - 5) / 7 do results[index] = commit(index) end
return results
