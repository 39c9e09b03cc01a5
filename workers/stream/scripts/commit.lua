-- Commit decisions of one partition. Each entry is fenced by itself: it counts only if this
-- consumer still owns it, it is still fresh where that matters, and its seq is new.
-- KEYS  1 frames, 2 decisions, 3 dead letters, then those that entries name
-- ARGV  1 group, 2 consumer, 3 packed: {now_ms, max_decisions, max_camera_decisions,
--       max_dead_letters, max_seqs, presentation: {upper, lower, frame_correlation, max_frames,
--       silence_ms, max_refused, refused_ms}}, then one packed for each entry:
--       {id, decision, signature, error, deadline_ms, camera, seen, seq, until_ms, presentation}
--       camera, seen: indices in KEYS of a proven camera's decisions and of its seq memory;
--       presentation: {state, attempts: indices in KEYS, evidence, verdicts: each {p, s}}, of a
--       judged frame that belongs to one; they, deadline_ms, seq and until_ms may be missing
-- Returns for each entry a result, or the text of an error; then the texts of what went wrong beside
-- that.  Includes: results, clock, seq_memory, presentation.
--
-- A script that fails half-way is not rolled back. So what every entry needs is tried before the
-- first write, an entry's own writes are undone if one of them is refused, and the frame is acked
-- and deleted last: a failure leaves a frame that is tried again, never one without a decision,
-- and never two decisions. A dead letter tells more of a decision, a presentation's verdict builds on
-- it; neither stands in its way.
local frames, decisions, dead = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, shared = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])

local function refusal(answer)
  return type(answer) == 'table' and answer.err or nil
end

-- Harmless where they are allowed: there is no entry 0-0.
for _, probe in ipairs({
  {'XACK', frames, group, '0-0'}, {'XDEL', frames, '0-0'}, {'XDEL', decisions, '0-0'}
}) do
  local answer = redis.pcall(unpack(probe))
  if refusal(answer) then return answer end
end

-- The id of a decision is the time of its commit, by a clock that never steps back: so the newest id
-- is a time that has been, whoever knew of it.
local newest = redis.call('XREVRANGE', decisions, '+', '-', 'COUNT', 1)[1]
local newest_ms = newest and tonumber(newest[1]:match('^%d+')) or 0
local now_ms = later_of(math.max(shared.now_ms, newest_ms))

local at_now, troubles = string.format('%.0f-*', now_ms), {}

-- What makes entries of streams, and can take them back.
local function writing()
  local undo = {}
  local function add(key, max, ...)
    local id = redis.pcall('XADD', key, 'MAXLEN', '~', max, at_now, ...)
    if refusal(id) and id.err:find('equal or smaller') then -- than one that is there no more
      id = redis.pcall('XADD', key, 'MAXLEN', '~', max, '*', ...)
    end
    if refusal(id) then return key .. ': ' .. id.err end
    undo[#undo + 1] = {'XDEL', key, id}
  end
  local function take_back()
    for at = #undo, 1, -1 do redis.pcall(unpack(undo[at])) end
  end
  return undo, add, take_back
end

-- Make the same fields visible in the streams of the partition and, if it is proven, of the camera.
local function publish(add, camera_decisions, ...)
  return add(decisions, shared.max_decisions, ...)
    or (camera_decisions and add(camera_decisions, shared.max_camera_decisions, ...))
end

local function write(entry, camera_decisions, seen)
  local undo, add, take_back = writing()
  local signed = entry.signature ~= '' and {'s', entry.signature} or {}
  local failure
  if entry.seq then
    failure = remember_seq(seen, entry.seq, entry.until_ms, now_ms)
    undo[#undo + 1] = {'ZREM', seen, entry.seq}
  end
  failure = failure or publish(add, camera_decisions, 'd', entry.decision, unpack(signed))
  if failure then
    take_back()
    return failure
  end
  if entry.error ~= '' then
    troubles[#troubles + 1] =
      add(dead, shared.max_dead_letters, 'd', entry.decision, 'error', entry.error)
  end
end

local function tell(camera_decisions, verdict)
  local _, add, take_back = writing()
  local signed = verdict[2] ~= '' and {'s', verdict[2]} or {}
  local failure = publish(add, camera_decisions, 'p', verdict[1], unpack(signed))
  if failure then take_back() end
  return failure
end

local function commit(entry)
  local pending = redis.call('XPENDING', frames, group, entry.id, entry.id, 1)[1]
  if not pending or pending[2] ~= consumer then return NOT_OWNER end
  if entry.deadline_ms and now_ms > entry.deadline_ms then return EXPIRED end
  local camera_decisions = entry.camera and KEYS[entry.camera]
  local seen = entry.seen and KEYS[entry.seen]
  local failure = entry.seq and check_seq(seen, entry.seq, now_ms, shared.max_seqs)
    or write(entry, camera_decisions, seen)
  if failure then return failure end
  if entry.presentation then
    troubles[#troubles + 1] = weigh(entry.presentation, shared.presentation, now_ms,
      function(verdict) return tell(camera_decisions, verdict) end)
  end
  redis.call('XACK', frames, group, entry.id)
  redis.call('XDEL', frames, entry.id)
  return COMMITTED
end

local results = {}
for at = 4, #ARGV do results[#results + 1] = commit(cmsgpack.unpack(ARGV[at])) end
for _, trouble in ipairs(troubles) do results[#results + 1] = trouble end
return results
