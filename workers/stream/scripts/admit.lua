-- Note that a camera's seq was seen, for a frame that came by HTTP and has no stream entry.
-- KEYS  seen    ARGV  seq hi, seq lo
-- Returns 1, or 0 if it was seen before or is below the window.
local window = advance(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if not window then return 0 end
remember(KEYS[1], window)
return 1
