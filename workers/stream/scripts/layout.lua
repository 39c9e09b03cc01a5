-- Note for how many partitions the streams are laid out, or see for how many they were.
-- KEYS  1 layout    ARGV  1 partitions, 2 'replace' or ''
-- Returns the number that is noted now.
if ARGV[2] == 'replace' or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('GET', KEYS[1])
