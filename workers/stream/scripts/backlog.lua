-- Figures of one partition, all of one instant.
-- KEYS  frames    ARGV  group
-- Returns {waiting + pending, pending, added ever, Unix ms of the oldest entry or 0, Unix ms now}.
-- XINFO's own `lag` is not used: it is unknown once entries are deleted out of order.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0, 0, 0, now_ms} end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local at = {}
for index = 1, #info, 2 do at[info[index]] = info[index + 1] end
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
local oldest = at['first-entry'] and tonumber(at['first-entry'][1]:match('^%d+')) or 0
return {at.length, pending.err and 0 or pending[1], at['entries-added'], oldest, now_ms}
