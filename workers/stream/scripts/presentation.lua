-- The verdict on a presentation: the sequential test of model/serving/presentations.py.
-- Two strings, each packed: of the presentation {total, frames, is_told, last_ms}, of its camera
-- {refused, since_ms}. Both expire by themselves.

local VERDICT, UNDECIDED, TOO_MANY = 1, 2, 3

-- Returns what is packed under a key, or nil; and the text of an error.
local function stored(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' and value.err then return nil, key .. ': ' .. value.err end
  return value and cmsgpack.unpack(value)
end

-- Returns nil, or the text of an error.
local function store(key, state, for_ms)
  local answer = redis.pcall('SET', key, cmsgpack.pack(state), 'PX', for_ms)
  return answer.err and key .. ': ' .. answer.err
end

-- Returns which of its verdicts a presentation gets by a frame more, or nil.
local function verdict_of(state, limits)
  local combined = state.total / (1 + (state.frames - 1) * limits.frame_correlation)
  if combined >= limits.upper or combined <= limits.lower then return VERDICT end
  return state.frames >= limits.max_frames and UNDECIDED or nil
end

-- Weigh one judged frame. `tell(verdict)` makes a verdict visible, or returns the text of an error.
-- Returns nil, or the text of an error: then nothing was told.
local function weigh(step, limits, now_ms, tell)
  local state, failure = stored(KEYS[step.state])
  if failure then return failure end
  if not state or now_ms - state.last_ms > limits.silence_ms then
    state = {total = 0, frames = 0, is_told = false}
  end
  state.last_ms = now_ms
  local which, attempts
  if not state.is_told then
    state.total, state.frames = state.total + step.evidence, state.frames + 1
    which = verdict_of(state, limits)
  end
  if which then -- most frames bring about none, and need not know of the camera's attempts
    attempts, failure = stored(KEYS[step.attempts])
    if failure then return failure end
    if not attempts or now_ms - attempts.since_ms > limits.refused_ms then
      attempts = {refused = 0, since_ms = now_ms}
    end
    if which == VERDICT and step.evidence > 0 and attempts.refused >= limits.max_refused then
      which = TOO_MANY
    end
    state.is_told = true
  end
  failure = store(KEYS[step.state], state, limits.silence_ms)
  if failure or not which then return failure end
  if which ~= VERDICT or step.evidence < 0 then
    attempts.refused = attempts.refused + 1
    failure = store(KEYS[step.attempts], attempts, limits.refused_ms)
  end
  failure = failure or tell(step.verdicts[which])
  if failure then -- let a later frame try again
    state.is_told = false
    store(KEYS[step.state], state, limits.silence_ms)
  end
  return failure
end
