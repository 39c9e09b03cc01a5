-- Figures of partitions, each of one instant.
-- KEYS  none: the partitions of a cluster's server are in different slots
-- ARGV  1 group, then the frames streams
-- Returns for each {entries, pending, added ever, Unix ms of the oldest entry or 0, Unix ms now}, or
-- the text of an error. What is no stream has no entries: that must not hide the other figures.
-- XINFO's own `lag` is not used: it is unknown once entries are deleted out of order.
-- XINFO STREAM shows two whole frames. Whoever may not see any gets 0 for what only it tells: how
-- many were ever added, and the oldest entry unless it is pending.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function figures_without_frames(key)
  local length, pending = redis.pcall('XLEN', key), redis.pcall('XPENDING', key, ARGV[1])
  if type(length) == 'table' then return length.err end
  if pending.err then return {length, 0, 0, 0, now_ms} end
  local oldest = pending[2] and tonumber(pending[2]:match('^%d+')) or 0
  return {length, pending[1], 0, oldest, now_ms}
end

local function figures(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then
    if info.err:find('no such key') or info.err:find('WRONGTYPE') then
      return {0, 0, 0, 0, now_ms}
    end
    -- As Valkey says it, and as Redis does.
    local is_refused = info.err:find('ACL failure') or info.err:find("can't run this command")
    if is_refused then return figures_without_frames(key) end
    return info.err
  end
  local at = {}
  for index = 1, #info, 2 do at[info[index]] = info[index + 1] end
  local pending = redis.pcall('XPENDING', key, ARGV[1])
  local oldest = at['first-entry'] and tonumber(at['first-entry'][1]:match('^%d+')) or 0
  return {at.length, pending.err and 0 or pending[1], at['entries-added'], oldest, now_ms}
end

local rows = {}
for index = 2, #ARGV do rows[#rows + 1] = figures(ARGV[index]) end
return rows
