-- Deliver new entries of several partitions to this consumer, as many as it has room for in all.
-- KEYS  none: the partitions of a cluster's server are in different slots
-- ARGV  1 group, 2 consumer, 3 slots, then the frames streams, in the order in which they are asked
-- Returns rows {index of the stream, entries}, or {index, text of an error}; and the indices of those
-- where nothing is left.
local group, consumer, slots = ARGV[1], ARGV[2], tonumber(ARGV[3])
local rows, emptied, num_streams = {}, {}, #ARGV - 3

local function take(index, count)
  local answer = redis.pcall(
    'XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', ARGV[3 + index], '>')
  if answer and answer.err then
    rows[#rows + 1] = {index, answer.err}
    return -1
  end
  local taken = answer and #answer[1][2] or 0
  if taken > 0 then rows[#rows + 1] = {index, answer[1][2]} end
  if taken < count then emptied[#emptied + 1] = index end
  return taken
end

-- First a share for each, then what is left for whoever has more.
local has_more = {}
for index = 1, num_streams do
  if slots < 1 then return {rows, emptied} end
  local share = math.ceil(slots / (num_streams - index + 1))
  local taken = take(index, share)
  if taken == share then has_more[#has_more + 1] = index end
  if taken > 0 then slots = slots - taken end
end
for _, index in ipairs(has_more) do
  if slots < 1 then return {rows, emptied} end
  local taken = take(index, slots)
  if taken > 0 then slots = slots - taken end
end
return {rows, emptied}
