-- Remove consumers from the group that are no members any more.
-- KEYS  1 frames    ARGV  1 group, 2 packed: {names: of the members}
-- Returns how many. Never one that has entries: DELCONSUMER would drop them from the pending list
-- for good.
local is_member, removed = {}, 0
for _, name in ipairs(cmsgpack.unpack(ARGV[2]).names) do is_member[name] = true end
local rows = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if rows.err then return 0 end
for _, row in ipairs(rows) do
  local info = {}
  for index = 1, #row, 2 do info[row[index]] = row[index + 1] end
  if info.pending == 0 and not is_member[info.name] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info.name)
    removed = removed + 1
  end
end
return removed
