-- Which seqs of a camera were used: a sorted set, seq -> Unix ms until which it is remembered.
-- It expires as a whole, so that cameras which no longer send leave nothing behind.

-- Returns nil if seq is new, or why it can't be used: a result, or the text of an error.
local function check_seq(key, seq, now_ms, max_seqs)
  local until_ms = redis.pcall('ZSCORE', key, seq)
  if type(until_ms) == 'table' and until_ms.err then return until_ms.err end
  if until_ms and tonumber(until_ms) >= now_ms then return REPLAYED end
  local remembered = redis.pcall('ZCOUNT', key, now_ms, '+inf')
  if type(remembered) == 'table' then return remembered.err end
  if remembered >= max_seqs then return MEMORY_FULL end
  return nil
end

-- Returns nil, or the text of an error.
local function remember_seq(key, seq, until_ms, now_ms)
  local answer = redis.pcall('ZADD', key, until_ms, seq)
  if type(answer) == 'table' and answer.err then return answer.err end
  redis.pcall('ZREMRANGEBYSCORE', key, '-inf', '(' .. string.format('%.0f', now_ms))
  local newest = redis.pcall('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  local last = newest[2]
  if last then redis.pcall('PEXPIREAT', key, string.format('%.0f', tonumber(last))) end
  return nil
end
