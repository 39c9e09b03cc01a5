-- Note for how many partitions the streams are laid out, or see for how many they were.
-- KEYS  1 layout    ARGV  1 partitions; missing: only look
-- Returns the number that is noted now, or nil.
if ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('GET', KEYS[1])
