-- Add a frame that the ingress has proven, if its camera keeps to its rate.
-- KEYS  1 frames, 2 rate of the camera
-- ARGV  1 packed: {period_ms, burst_ms}, then the entry's fields and values, flat
-- Returns the entry's id; or how many ms its camera has to wait; or the text of an error.
-- A full server refuses this script before its start: it alone brings more in.
-- Source: the generic cell rate algorithm, ITU-T I.371, annex A, as a virtual schedule.
local rate = cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + time[2] / 1000
local due_ms = math.max(tonumber(redis.call('GET', KEYS[2])) or now_ms, now_ms)
-- Further ahead than it can be: the server's clock was set back.
if due_ms - now_ms > rate.burst_ms + rate.period_ms then due_ms = now_ms end
local next_ms = due_ms + rate.period_ms
local wait_ms = math.ceil(next_ms - now_ms - rate.burst_ms)
if wait_ms > 0 then return wait_ms end
local id = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 2))
if type(id) == 'table' and id.err then return {id.err} end
redis.call('SET', KEYS[2], string.format('%.3f', next_ms), 'PX', math.ceil(next_ms - now_ms))
return id
