-- Take over entries of consumers that are known to be silent, and see who holds any.
-- KEYS  none: the partitions of a cluster's server are in different slots
-- ARGV  1 group, 2 consumer, 3 packed: {max_deliveries, slots, silent: names}, then the frames
--       streams, in the order in which they are asked
-- Returns {rows, holders, own}: rows {index of the stream, id, deliveries, fields}; holders are the
-- names of all consumers that have entries; own are {index of the stream, number of this consumer's
-- entries}. Fields are false once an entry was delivered too often: it ended whoever held it, so its
-- content does not leave the server again.
--
-- Entries that were delivered once come together. One that was delivered more often comes alone: if
-- it is what ended the others, it takes no neighbours along.
-- Idle times are not asked: they are the server's wall clock, which may step.
local group, consumer, shared = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])
local rows, holders, own, is_silent = {}, {}, {}, {}
for _, name in ipairs(shared.silent) do is_silent[name] = true end

-- Returns the fields of an entry that is now ours, or nil if it no longer exists.
local function claim(key, id)
  local claimed = redis.call('XCLAIM', key, group, consumer, 0, id)[1]
  return claimed and claimed[2]
end

local function take(index, key, name)
  for _, pending in ipairs(redis.call('XPENDING', key, group, '-', '+', shared.slots, name)) do
    local id, deliveries = pending[1], pending[4]
    if #rows >= shared.slots or (#rows > 0 and deliveries > 1) then return true end
    if deliveries >= shared.max_deliveries then
      redis.call('XCLAIM', key, group, consumer, 0, id, 'JUSTID')
      rows[1] = {index, id, deliveries, false}
      return true
    end
    local fields = claim(key, id)
    if fields then rows[#rows + 1] = {index, id, deliveries + 1, fields} end
    if fields and deliveries > 1 then return true end
  end
  return false
end

for index = 1, #ARGV - 3 do
  local key = ARGV[3 + index]
  local summary = redis.pcall('XPENDING', key, group)
  if not summary.err and summary[1] > 0 then
    for _, holder in ipairs(summary[4]) do
      holders[holder[1]] = true
      if holder[1] == consumer then own[#own + 1] = {index, tonumber(holder[2])} end
      if is_silent[holder[1]] and take(index, key, holder[1]) then
        return {rows, {}, {}}
      end
    end
  end
end
local names = {}
for name in pairs(holders) do names[#names + 1] = name end
return {rows, names, own}
