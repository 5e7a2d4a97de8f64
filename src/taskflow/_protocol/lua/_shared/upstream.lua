-- upstream: an external service as the whole fleet knows it, and its turns.
-- Needs   prefix, now.  Gives  NEVER, upstreams, upstream(name) -> table, displace(u),
--         turn(u, state, by, reason, retry), tap(u, wait, why), window_fields().
-- The hash upstream:<name> holds the rules, which its declaration gives, and the
-- state, which scripts alone change. u.is_known is false when the server has no rules
-- that can be read: nobody declared the upstream, or the server lost its data. Then
-- no task of it is handed out until a worker declares it.
local NEVER = 9007199254740991
local upstreams = {}

local function window_fields()
  local names = {}
  for i = 0, 19 do
    names[i + 1] = 'w' .. i
  end
  return unpack(names)
end

local function number(text)
  local value = tonumber(text)
  return value and value > -NEVER and value <= NEVER and value or 0
end

local function upstream(name)
  local u = upstreams[name]
  if u then
    return u
  end
  local key = prefix .. 'upstream:' .. name
  local found = redis.pcall('HMGET', key, 'rules', 'state', 'retry_ms', 'epoch', 'tap_ms', 'ramp_ms', 'ramped', 'tat', 'opens', 'passed', 'by', 'seen_ms')
  local is_foreign = found.err and true or false
  if is_foreign then
    found = {}
  end
  local is_known, rules = pcall(cjson.decode, found[1] or '')
  for i = 1, 11 do
    is_known = is_known and type(rules) == 'table' and type(rules[i]) == 'number'
  end
  if not is_known then
    rules = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
    -- A hold has no rules, and nobody can declare what is no name of an upstream.
    is_known = not string.match(name, '^[%w_.-]+$') or #name > 128 or name == 'task'
  end
  u = {
    name = name, key = key, is_foreign = is_foreign, is_known = is_known, rules = rules, depth = {}, planned = 0, free = 0,
    failure_rate = rules[1], min_calls = rules[2], window = rules[3], reset = rules[4], longest = rules[5],
    probes = rules[6], consecutive = rules[7], limit = rules[8], per = rules[9], burst = rules[10],
    concurrency = rules[11],
    state = found[2] == 'open' and 'open' or found[2] == 'half-open' and 'half-open' or 'closed', retry = number(found[3]), epoch = number(found[4]),
    tap = number(found[5]), ramp = number(found[6]), ramped = number(found[7]),
    tat = number(found[8]), opens = number(found[9]), passed = number(found[10]),
    by = found[11] or '',
  }
  if now < number(found[12]) - 1000 and u.limit > 0 then
    -- The server's clock was set back: the bucket is empty, not full.
    u.tat, u.was_set_back = math.min(u.tat, now + u.burst * u.per / u.limit), true
  end
  upstreams[name] = u
  return u
end

-- Make room where a key of a foreign type stands.
local function displace(u)
  if u.is_foreign then
    redis.call('DEL', u.key)
    u.is_foreign = false
  end
end

-- Change the breaker's state, and tell everybody. retry: when an open one is
-- tried again (ms), 0 = when a person says so.
local function turn(u, state, by, reason, retry)
  u.state, u.epoch, u.retry, u.passed, u.left, u.by = state, u.epoch + 1, retry or 0, 0, nil, by
  if state == 'open' then
    u.opens = u.opens + 1
  elseif state == 'closed' then
    u.opens, u.ramp, u.ramped = 0, now, 0
  end
  displace(u)
  redis.call('HSET', u.key, 'state', state, 'epoch', u.epoch, 'retry_ms', u.retry, 'since_ms', now, 'passed', 0,
    'by', by, 'reason', reason, 'opens', u.opens, 'row', 0, 'ramp_ms', u.ramp, 'ramped', u.ramped)
  redis.call('HDEL', u.key, window_fields())
  redis.call('DEL', u.key .. ':probes')
  if state ~= 'half-open' then
    redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', state == 'open' and 'upstream_opened' or 'upstream_closed',
      'upstream', u.name, 'by', by, 'reason', reason, 'until_ms', u.retry, 'at_ms', now)
  end
  redis.call('PUBLISH', prefix .. 'taskflow:upstreams', cjson.encode({
    name = u.name, state = state, epoch = u.epoch, retry_ms = u.retry, now_ms = now, by = by, reason = reason }))
  local again = state ~= 'open' and now or u.retry > 0 and u.retry or NEVER
  if redis.call('ZSCORE', prefix .. 'tasks:parked', u.name) then
    redis.call('ZADD', prefix .. 'tasks:parked', again, u.name)
    redis.pcall('ZADD', prefix .. 'tasks:marker', state == 'open' and again or 0, state == 'open' and 'due' or 'work')
  end
end

-- Admit no call for the next `wait` ms.
local function tap(u, wait, why)
  if u.tap <= now then
    redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', 'upstream_tapped', 'upstream', u.name,
      'reason', why, 'until_ms', now + wait, 'at_ms', now)
  end
  if now + wait > u.tap then
    u.tap, u.left, u.ramp, u.ramped = now + wait, nil, now + wait, 0
    redis.call('HSET', u.key, 'tap_ms', u.tap, 'tap_reason', why, 'ramp_ms', u.ramp, 'ramped', 0)
    redis.call('ZADD', prefix .. 'tasks:parked', 'XX', u.tap, u.name)
    redis.pcall('ZADD', prefix .. 'tasks:marker', u.tap, 'due')
  end
end
