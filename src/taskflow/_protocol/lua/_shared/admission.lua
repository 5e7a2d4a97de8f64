-- admission: how many calls of an upstream may begin now; and let one begin.
-- Needs   prefix, now, upstream.lua, lease.  Gives  tickets(key), room(u),
--         take(u, weight, ticket), foresee(u, weight), take_next(u, ticket),
--         keep_admissions(), and u.again, when to look again after room(u) was 0.
-- Rate: the generic cell rate algorithm, a token bucket kept as one time, the
-- "theoretical arrival time" (ITU-T I.371). Slow start: after it was shut, an
-- upstream admits 10 calls in the first second, twice as many in each that follows,
-- and after ten seconds what its limits allow.
local RAMP = 10
local LN2 = math.log(2)

-- Count the tickets that hold. A task's whose time is over is kept for as long as it
-- runs, so that nobody has to renew it, and a dead worker's goes with the task. A
-- guard's is renewed by its process; a task that runs again has nothing to do with it.
local function tickets(key)
  local lapsed = redis.pcall('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 100)
  if lapsed.err then
    redis.call('DEL', key) -- of a foreign type, it would stop every claim
  end
  for _, ticket in ipairs(lapsed) do
    if string.sub(ticket, 1, 6) ~= 'guard:' and redis.pcall('HGET', prefix .. 'task:' .. ticket, 'state') == 'ACTIVE' then
      redis.call('ZADD', key, now + lease, ticket)
    else
      redis.call('ZREM', key, ticket)
    end
  end
  return redis.call('ZCARD', key)
end

local function until_one_lapses(key)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return math.max(now + 1, first and tonumber(first) or now + 1000)
end

local function left(u)
  if u.left then
    return u.left
  end
  u.left, u.again = 1000000, now + 1000
  if not u.is_known then
    u.left = 0
    return 0
  elseif u.state == 'open' and (u.retry == 0 or u.retry > now) then
    u.left, u.again = 0, u.retry == 0 and NEVER or u.retry
    return 0
  elseif u.state == 'open' then
    turn(u, u.probes > 0 and 'half-open' or 'closed', u.by, '', 0)
    u.left = 1000000
  end
  if u.state == 'half-open' and u.passed >= u.probes then
    -- New rules ask for no more probes than have passed, or for none.
    turn(u, 'closed', '', '', 0)
    u.left = 1000000
  end
  if u.tap > now then
    u.left, u.again = 0, u.tap
    return 0
  end
  if u.state == 'half-open' then
    u.left = math.min(u.left, u.probes - u.passed - tickets(u.key .. ':probes'))
    u.again = until_one_lapses(u.key .. ':probes')
  end
  if u.concurrency > 0 then
    local free = u.concurrency - tickets(u.key .. ':permits')
    if free < u.left then
      u.left, u.again = free, until_one_lapses(u.key .. ':permits')
    end
  end
  local seconds = (now - u.ramp) / 1000
  if u.state == 'closed' and u.ramp > 0 and seconds >= 0 and seconds < 10 then
    local allowed = math.floor(1 + RAMP * (2 ^ seconds - 1) / LN2) - u.ramped
    if allowed < u.left then
      u.left = allowed
      u.again = u.ramp + math.ceil(1000 * math.log(u.ramped * LN2 / RAMP + 1) / LN2)
    end
  end
  u.left = math.max(0, u.left)
  u.stores = u.concurrency > 0 or u.guards or u.state == 'half-open'
  return u.left
end

-- Milliseconds by which the bucket is ahead of the time: 0 = it is full.
local function ahead(u)
  return math.max(0, u.tat - now)
end

-- When a call of this weight fits the bucket: now, or later (ms). One heavier than
-- the bucket needs a full one, and leaves it in debt.
local function fits_at(u, weight)
  if u.limit == 0 or weight == 0 then
    return now
  end
  local interval = u.per / u.limit
  local late = ahead(u) - (u.burst - math.min(weight, u.burst)) * interval
  return late > 0.001 and now + math.ceil(late) or now
end

local function room(u)
  local free = left(u)
  if free == 0 or u.limit == 0 then
    return free
  end
  local interval = u.per / u.limit
  local tokens = math.floor(u.burst - ahead(u) / interval + 0.001)
  if tokens < 1 then
    u.again = math.max(now + 1, fits_at(u, 1))
  end
  return math.max(0, math.min(free, tokens))
end

-- Let one call begin, on this ticket; false when it may not.
local function take(u, weight, ticket)
  u.free = 0
  if left(u) == 0 then
    return false
  end
  if u.limit > 0 and weight > 0 then
    local at = fits_at(u, weight)
    if at > now then
      u.left, u.again = 0, at
      return false
    end
    u.tat = now + ahead(u) + weight * u.per / u.limit
  end
  u.left, u.ramped, u.charged = u.left - 1, u.ramped + 1, true
  if u.stores then
    local stored = u.tickets or {}
    stored[#stored + 1], stored[#stored + 2] = now + lease, ticket
    u.tickets = stored
  end
  return true
end

-- After a take(): how many more calls of this weight are as sure to be let begin,
-- and are told so by take_next() alone, while u.free_weight is theirs.
local function foresee(u, weight)
  local free = u.state == 'closed' and not u.parked and u.left or 0
  u.free_weight, u.cost = weight, 0
  if free > 0 and u.limit > 0 and weight > 0 then
    local interval = u.per / u.limit
    u.cost = weight * interval
    free = math.min(free, math.floor((u.burst * interval - ahead(u)) / u.cost))
  end
  u.free = free
end

local function take_next(u, ticket)
  u.free, u.left, u.ramped, u.tat = u.free - 1, u.left - 1, u.ramped + 1, u.tat + u.cost
  local stored = u.tickets
  if stored then
    stored[#stored + 1], stored[#stored + 2] = now + lease, ticket
  end
end

-- Store what take() has charged, and the bucket of a clock that was set back.
local function keep_admissions()
  for _, u in pairs(upstreams) do
    if u.was_set_back then
      redis.call('HSET', u.key, 'tat', string.format('%.3f', u.tat), 'seen_ms', now)
    end
    if u.charged then
      if u.limit > 0 or u.ramp > 0 and now - u.ramp < 10000 then
        redis.call('HSET', u.key, 'tat', string.format('%.3f', u.tat), 'ramped', u.ramped, 'seen_ms', now)
      end
      if u.concurrency > 0 or u.guards then
        redis.call('ZADD', u.key .. ':permits', unpack(u.tickets))
      end
      if u.state == 'half-open' then
        redis.call('ZADD', u.key .. ':probes', unpack(u.tickets))
      end
      u.charged, u.tickets = false, nil
    end
  end
end
