-- Remove this consumer, and those of replicas that died long ago, from the group.
-- KEYS  frames    ARGV  group, consumer ('' to keep it), idle ms after which another is gone
-- Never one that has entries: DELCONSUMER would drop them from the pending list for good.
local removed = 0
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for index = 1, #row, 2 do info[row[index]] = row[index + 1] end
  local is_gone = info.name == ARGV[2] or info.idle > tonumber(ARGV[3])
  if is_gone and info.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
    removed = removed + 1
  end
end
return removed
