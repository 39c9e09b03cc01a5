-- Add to counts that expire once nobody adds to them for long.
-- KEYS  1 hash of counts    ARGV  1 named: fields, counts (one for each field), about, keep_ms
-- Returns nothing. `about` says what is counted, for whoever reads the hash.
local args = cmsgpack.unpack(ARGV[1])
for index, field in ipairs(args.fields) do
  redis.call('HINCRBY', KEYS[1], field, args.counts[index])
end
redis.call('HSET', KEYS[1], 'about', args.about)
redis.call('PEXPIRE', KEYS[1], args.keep_ms)
