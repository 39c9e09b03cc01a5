-- Hand out again what this consumer was given in a reply that it never got.
-- KEYS  1 frames
-- ARGV  1 group, 2 consumer, 3 packed: {slots, has: ids that it has in hand}
-- Returns rows {id, deliveries, fields}. Deliveries stay as they were: what was never seen was
-- not delivered.
local key, group, consumer, shared = KEYS[1], ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])
local has, rows = {}, {}
for _, id in ipairs(shared.has) do has[id] = true end
local limit = #shared.has + shared.slots
for _, pending in ipairs(redis.call('XPENDING', key, group, '-', '+', limit, consumer)) do
  local id, deliveries = pending[1], pending[4]
  if #rows >= shared.slots then return rows end
  if not has[id] then
    local again = redis.call('XCLAIM', key, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
    if again then rows[#rows + 1] = {id, deliveries, again[2]} end
  end
end
return rows
