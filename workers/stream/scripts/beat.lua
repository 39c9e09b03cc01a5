-- Say that a consumer is alive, and see who else is.
-- KEYS  1 members    ARGV  1 consumer
-- Returns all members, flat: name, beats, name, beats, ... Whose beats stand still is silent.
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
return redis.call('HGETALL', KEYS[1])
