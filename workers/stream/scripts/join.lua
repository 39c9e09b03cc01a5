-- Make the consumer group of a partition where it is missing, even on a full server.
-- KEYS  1 frames    ARGV  1 group
local answer = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if answer.err and not answer.err:find('BUSYGROUP') then return answer end
return redis.status_reply('OK')
