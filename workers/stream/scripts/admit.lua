-- Use a camera's seq for a frame that came by HTTP and is in no stream.
-- KEYS  1 seq memory of the camera, 2 mark of this attempt
-- ARGV  1 packed: {now_ms, seq, until_ms, max_seqs, mark_ms}
-- Returns a result, or the text of an error.  Includes: results, seq_memory.
-- The mark tells a second try, after the first one's reply got lost, from a replay.
local use = cmsgpack.unpack(ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then return COMMITTED end
local now_ms = later_of(use.now_ms)
local failure = check_seq(KEYS[1], use.seq, now_ms, use.max_seqs)
  or remember_seq(KEYS[1], use.seq, use.until_ms, now_ms)
if failure then return failure end
redis.call('SET', KEYS[2], '', 'PX', use.mark_ms)
return COMMITTED
