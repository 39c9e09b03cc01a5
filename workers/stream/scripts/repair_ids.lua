-- Find frames streams whose newest id lies far ahead of now, and set the empty ones right.
-- KEYS  none: the partitions of a cluster's server are in different slots
-- ARGV  1 group, 2 ms that are far, then the frames streams
-- Returns rows {index of the stream, ms ahead, 1 if it was repaired}.
--
-- Whoever may add entries may choose their ids, and later ones follow: from then on the ids say no
-- more when a frame arrived, and after the highest id of all there is none left.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local rows = {}
for index = 3, #ARGV do
  local key, at = ARGV[index], {}
  local info = redis.pcall('XINFO', 'STREAM', key)
  if not info.err then
    for row = 1, #info, 2 do at[info[row]] = info[row + 1] end
    local ahead_ms = tonumber(at['last-generated-id']:match('^%d+')) - now_ms
    if ahead_ms > tonumber(ARGV[2]) then
      local pending = redis.pcall('XPENDING', key, ARGV[1])
      local is_empty = at.length == 0 and not pending.err and pending[1] == 0
      if is_empty then
        -- XSETID alone lowers no id in Valkey, where the far one was deleted. So the stream is made
        -- anew; its count of entries goes on, for rates are taken from it.
        local id = string.format('%.0f-0', now_ms)
        redis.call('DEL', key)
        redis.call('XGROUP', 'CREATE', key, ARGV[1], '0', 'MKSTREAM')
        redis.call('XSETID', key, id, 'ENTRIESADDED', at['entries-added'], 'MAXDELETEDID', id)
      end
      rows[#rows + 1] = {index - 2, string.format('%.0f', ahead_ms), is_empty and 1 or 0}
    end
  end
end
return rows
