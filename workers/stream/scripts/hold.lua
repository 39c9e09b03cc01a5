-- Keep held entries from being reclaimed: reset their idle time where they are still ours.
-- KEYS  frames    ARGV  group, consumer, id ...
-- Returns the ids that are no longer ours.
local lost = {}
for index = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[index], ARGV[index], 1)[1]
  if pending and pending[2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[index], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[index]
  end
end
return lost
