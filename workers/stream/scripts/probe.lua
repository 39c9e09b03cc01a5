-- Try every command that the scripts use, each in a way that changes nothing.
-- KEYS  1 frames, 2 any key that does not exist    ARGV  1 group, 2 consumer
-- Returns the text of each refusal. A missing group or a wrong type is none: it is met later.
local frames, absent, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local refusals = {}
for _, command in ipairs({
  {'TIME'}, {'EXISTS', absent}, {'XACK', frames, group, '0-0'}, {'XDEL', frames, '0-0'},
  {'XADD', absent, 'NOMKSTREAM', '*', 'd', ''}, {'XREVRANGE', absent, '+', '-', 'COUNT', 1},
  {'XRANGE', absent, '-', '+', 'COUNT', 1}, {'XLEN', absent}, {'XINFO', 'STREAM', frames},
  {'XINFO', 'CONSUMERS', frames, group}, {'XPENDING', frames, group},
  {'XCLAIM', frames, group, consumer, 0, '0-0'},
  {'XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', frames, '0-0'},
  {'XGROUP', 'DELCONSUMER', frames, group, consumer .. ':none'},
  {'ZADD', absent, 'XX', 1, 'x'}, {'ZREM', absent, 'x'}, {'ZSCORE', absent, 'x'},
  {'ZCOUNT', absent, 0, 0}, {'ZREVRANGE', absent, 0, 0}, {'ZREMRANGEBYSCORE', absent, 0, 0},
  {'PEXPIREAT', absent, 1}, {'SET', absent, '', 'XX'}, {'GET', absent}, {'HDEL', absent, 'x'},
  {'HKEYS', absent}, {'HGETALL', absent}
}) do
  local answer = redis.pcall(unpack(command))
  local err = type(answer) == 'table' and answer.err
  if err and not (err:find('WRONGTYPE') or err:find('NOGROUP') or err:find('no such key')) then
    refusals[#refusals + 1] = command[1] .. ': ' .. err
  end
end
return refusals
