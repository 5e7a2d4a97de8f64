-- reap.lua: take tasks back from workers that stopped renewing their leases.
--
-- Moves    ACTIVE -> PENDING (head of retry, or suspects), DLQ as poison, or
--          CANCELLED when a cancel was asked for
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  marker     zset that wakes a waiting worker
-- KEYS[3]  events     stream of rare events, capped
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  limit      most leases to take back, 1..100
-- ARGV[4]  max_crashes at which a task is poison
-- ARGV[5]  latest     ms since epoch; run later than this, it does nothing; 0 =
--                     at any time
-- Touches  task:<id>, tasks:pending:retry, tasks:suspects, tasks:cancelled,
--          dlq:*, tasks:parked*, upstream:<name>:*
-- Returns  flat list of id, where it went (retry, suspects, poison,
--          cancelled, ghost), worker
-- Cost     O(n log m)
-- Why      A reap that waited while the server stood still would run before
--          the living can renew; so it names its latest time.
--          A lost lease is a crash and not an attempt: the two are counted
--          apart, and the token is voided so that the late worker is refused.
local active, marker, events = KEYS[1], KEYS[2], KEYS[3]
local limit, max_crashes, latest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include idempotency
-- @include ending
-- @include quarantine
-- @include history
-- @include parking
-- @include crash

if latest > 0 and now > latest then
  return {}
end
local expired = redis.call('ZRANGEBYSCORE', active, '-inf', now, 'LIMIT', 0, limit)
if #expired == 0 then
  return {}
end
make_room()
redis.call('ZREM', active, unpack(expired))

local function take_back(id, found)
  local record = prefix .. 'task:' .. id
  local delivery, worker = string.match(found[2] or '', '^(%d+):(.*):[^:]*$')
  local name = found[7] and string.match(found[7], ' (.+)$')
  if name then
    free(name, { id })
  end
  local crashes = redis.pcall('HINCRBY', record, 'crashes', 1)
  if type(crashes) == 'table' then
    quarantine(id, crashes.err)
    return 'ghost', worker or ''
  end
  worker = worker or ''
  redis.call('HSET', record, 'token', (delivery or 0) .. '::', 'since_ms', now)
  remember(id, string.format('{"outcome":"crash","crashes":%d,"worker":"%s","started_ms":%d}', crashes, worker, tonumber(found[5]) or 0))
  redis.pcall('XADD', events, 'MAXLEN', '~', 1000, '*', 'event', 'lease_lost', 'id', id, 'worker', worker, 'crashes', crashes, 'at_ms', now)
  local where = crashed(id, crashes, max_crashes, { cancel = found[3], key = found[4], watched = found[6],
    upstream = name, worker = worker, cancelled = 'cancelled; its worker died',
    poison = string.format('its worker died %d times while it ran', crashes) })
  return where, worker
end

local reply = {}
for i = #expired, 1, -1 do
  local id = expired[i]
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'token', 'cancel', 'key', 'started_ms', 'watched', 'upstream')
  local where, worker = 'ghost', ''
  if found.err then
    quarantine(id, found.err)
  elseif found[1] == 'ACTIVE' then
    where, worker = take_back(id, found)
  elseif not found[1] and redis.call('EXISTS', prefix .. 'task:' .. id) == 1 then
    quarantine(id, 'the record has no state')
  end
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, where, worker
end
redis.pcall('ZADD', marker, 0, 'work')
return reply
