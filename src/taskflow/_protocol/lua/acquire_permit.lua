-- acquire_permit.lua: ask for leave to call an upstream, from within a body or anywhere.
--
-- Moves    none
-- KEYS[1]  upstreams  set of the names of all that were declared or steered
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  name       of the upstream
-- ARGV[4]  ticket     'guard:<nonce>', sent again it is answered again and holds for
--                     another lease; or the id of the task whose permit it goes on
-- ARGV[5]  weight     tokens of the rate limit that the call takes
-- ARGV[6]  lease      ms for which the ticket holds
-- ARGV[7]  permit     own; lent = the call goes on the permit that its task holds
--                     already; renewed = its own, which it holds already
-- ARGV[8]  rules      JSON array, for an upstream that nobody has declared
-- ARGV[9]  recovery   ms, where the server lost rules that the caller knew: see
--                     rules.lua; 0 = the caller knew none
-- Touches  upstream:<name>*, tasks:parked, tasks:events
-- Returns  {IN, SHUT or WAIT; when to ask again (ms), now; epoch; shut by; reason;
--          state of the breaker}
-- Cost     O(log p) for p permits
-- Why      The same admission as a claim's, so that tasks and calls share one limit.
--          On a task's permit nothing is stored: such a call sent again is charged
--          to the rate twice, never too little.
local names = KEYS[1]
local name, ticket, weight, lease = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local needs_permit, is_renewal, rules, recovery = ARGV[7] ~= 'lent', ARGV[7] == 'renewed', ARGV[8], tonumber(ARGV[9])
-- @include clock
-- @include free_memory
-- @include upstream
-- @include admission
-- @include rules

make_room()
local key = prefix .. 'upstream:' .. name
local u = upstream(name)
if not u.is_known then
  u = set_rules(name, names, rules, recovery, true)
end
if needs_permit and type(redis.pcall('ZSCORE', key .. ':permits', ticket)) == 'string' then
  redis.call('ZADD', key .. ':permits', 'XX', 'GT', now + lease, ticket)
  redis.call('ZADD', key .. ':probes', 'XX', 'GT', now + lease, ticket)
  return { 'IN', 0, now, u.epoch, '', '', u.state }
elseif is_renewal then
  -- The call runs: while the server recovers what it lost, it has its permit back.
  local is_lost = u.concurrency > 0 and now < number(redis.call('HGET', key, 'recovery_ms'))
  if is_lost then
    redis.call('ZADD', key .. ':permits', now + lease, ticket)
  end
  return { is_lost and 'IN' or 'WAIT', now, now, u.epoch, '', '', u.state }
end
u.guards = needs_permit
if u.concurrency == 0 then
  -- Nobody counts these permits, so nobody sees those of processes that died.
  redis.call('ZREMRANGEBYSCORE', key .. ':permits', '-inf', now - 3600000)
elseif not needs_permit then
  u.concurrency = 0
end
local was_open = u.state == 'open'
local is_in = take(u, weight, ticket)
keep_admissions()
if is_in then
  return { 'IN', 0, now, u.epoch, '', '', u.state }
end
local shut = u.state == 'open' or u.state == 'half-open' or was_open
return { shut and 'SHUT' or 'WAIT', math.min(u.again, now + 86400000), now, u.epoch, u.by, redis.call('HGET', key, shut and 'reason' or 'tap_reason') or '', u.state }
