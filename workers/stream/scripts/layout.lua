-- Note for how many partitions the streams are laid out, or which codecs are taken, or see it.
-- KEYS  1 layout, or codecs    ARGV  1 partitions, or codecs; missing: only look
-- Returns what is noted now, or nil.
if ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('GET', KEYS[1])
