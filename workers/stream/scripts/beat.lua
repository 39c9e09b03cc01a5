-- Say that a consumer is alive, and see who else is.
-- KEYS  1 members    ARGV  1 consumer, 2 its beat: "<Unix ms>-<count>"
-- Returns all members, flat: name, beat, name, beat, ... Whose beat does not change is silent, and
-- the latest time in a beat is one that has been, whatever the server's clock says since.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
