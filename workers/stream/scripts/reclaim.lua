-- Take over one entry whose consumer has been silent for the lease.
-- KEYS  frames    ARGV  group, consumer, lease ms, max deliveries
-- Returns nil, or {id, deliveries, fields}; fields is nil once the entry was delivered too often:
-- it killed whoever held it, so its content does not leave the server again.
--
-- JUSTID claims without counting a delivery; XAUTOCLAIM drops entries that no longer exist.
local key, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local cursor = '0-0'
repeat
  local page = redis.call('XAUTOCLAIM', key, group, consumer, ARGV[3], cursor, 'COUNT', 1, 'JUSTID')
  cursor = page[1]
  local id = page[2][1]
  if id then
    local deliveries = redis.call('XPENDING', key, group, id, id, 1)[1][4]
    if deliveries >= tonumber(ARGV[4]) then return {id, deliveries, false} end
    local claimed = redis.call('XCLAIM', key, group, consumer, 0, id)[1]
    if claimed then return {id, deliveries + 1, claimed[2]} end
  end
until cursor == '0-0'
return false
