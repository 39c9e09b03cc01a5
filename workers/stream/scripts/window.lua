-- Anti-replay window of one camera: the highest seq, and which of the 1016 below it were seen.
-- Source: RFC 4303, section 3.4.3, with the ring of RFC 6479: no bit is ever shifted.
-- A seq has 64 bits and a Lua number holds 53: it comes as two halves, hi * 2^32 + lo.
local BYTES = 128

local function bit_of(lo)
  return math.floor(lo / 8) % BYTES, 2 ^ (lo % 8)
end

local function is_set(ring, byte, mask)
  return math.floor(ring:byte(byte + 1) / mask) % 2 == 1
end

local function put(ring, byte, value)
  return ring:sub(1, byte) .. string.char(value) .. ring:sub(byte + 2)
end

-- Returns nil if seq was seen or is below the window, else the window with seq in it.
local function advance(key, hi, lo)
  local held = redis.call('HMGET', key, 'hi', 'lo', 'ring')
  local byte, mask = bit_of(lo)
  if not held[3] then
    return {hi, lo, put(string.rep('\0', BYTES), byte, mask)}
  end
  local high_hi, high_lo, ring = tonumber(held[1]), tonumber(held[2]), held[3]
  local bytes_on = (hi - high_hi) * 2 ^ 29 + math.floor(lo / 8) - math.floor(high_lo / 8)
  if bytes_on <= -BYTES then return nil end
  if bytes_on >= BYTES then
    ring = string.rep('\0', BYTES)
  else
    for step = 1, bytes_on do
      ring = put(ring, (math.floor(high_lo / 8) + step) % BYTES, 0)
    end
  end
  if is_set(ring, byte, mask) then return nil end
  ring = put(ring, byte, ring:byte(byte + 1) + mask)
  if hi > high_hi or (hi == high_hi and lo > high_lo) then high_hi, high_lo = hi, lo end
  return {high_hi, high_lo, ring}
end

local function remember(key, window)
  redis.call('HSET', key, 'hi', window[1], 'lo', window[2], 'ring', window[3])
end
