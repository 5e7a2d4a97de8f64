-- settle.lua: give each finished run its one move, if its token still holds.
--
-- Moves    ACTIVE -> COMPLETED, SCHEDULED, DLQ, FAILED, CANCELLED or PENDING; a
--          PENDING one is parked when its upstream would not let it run
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  completed  zset, task id -> end time (ms)
-- KEYS[3]  scheduled  zset, task id -> due time (ms)
-- KEYS[4]  failed     zset, task id -> end time (ms)
-- KEYS[5]  cancelled  zset, task id -> end time (ms)
-- KEYS[6]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of outcomes, 1..100; then four values for each:
--                     id, token, verb, detail. Verbs and their details:
--                     complete: the result as JSON text, '' for null
--                     retry, snooze, dead, fail, cancel, park, crash: a JSON
--                       object of delay (ms), at_end, counts (0 or 1), age
--                       (ms), once, error, entry, cause, fingerprint,
--                       traceback, how, max_crashes, as the verb needs
--                     release: ''
--                     What is not to end goes to CANCELLED when a cancel was asked for.
-- ARGV[4 + 4 * count] and what follows: what the ended calls say of their
--                     upstreams: for each group of equal outcomes its upstream,
--                     epoch, outcome, reason, wait (ms), the number of its
--                     outcomes, and their places among the outcomes; 0 = all
-- Touches  task:<id>, dlq:*, the list of the task's lane, tasks:pending:retry,
--          tasks:suspects, tasks:parked*, upstream:*, tasks:events
-- Returns  count when all were accepted; else a list of words, one per
--          outcome: OK, STALE (another holds it, or none), GONE (deleted)
-- Cost     O(n log m)
-- Why      Checks all first and writes after. A repeat with the same token
--          answers OK and writes nothing: the token stays on the record
--          until the next hand-out, or until a lost lease voids it.
local active, completed, scheduled = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, marker = KEYS[4], KEYS[5], KEYS[6]
local count = tonumber(ARGV[3])
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include history
-- @include lanes
-- @include idempotency
-- @include ending
-- @include upstream
-- @include parking
-- @include call_outcomes
-- @include settle_moves
-- @include crash
-- @include outcomes

local has_places = (ARGV[4 * count + 9] or '0') ~= '0'
local words, refused, accepted, removed, seen, places, held, last_need = {}, false, {}, {}, {}, {}, {}, nil
for i = 1, count do
  local at = i * 4
  local id, token = ARGV[at], ARGV[at + 1]
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'token', 'key', 'watched', 'lane', 'upstream', 'cancel')
  if found.err or not found[1] then
    words[i], refused = 'GONE', true
  elseif found[2] ~= token then
    words[i], refused = 'STALE', true
  else
    words[i] = 'OK'
    if found[1] == 'ACTIVE' and not seen[id] then
      seen[id] = true
      found[5] = lane_of(found[5], 'primary')
      local verb, detail = ARGV[at + 2], ARGV[at + 3]
      if verb ~= 'complete' and detail ~= '' then
        detail = cjson.decode(detail)
      end
      accepted[#accepted + 1] = { id, verb, detail, found }
      removed[#removed + 1] = id
      if has_places then
        places[i] = id
      end
      local need = found[6]
      if need and need ~= last_need then
        held[need], last_need = true, need
      end
    end
  end
end
if #accepted == 0 then
  return refused and words or count
end

make_room()
redis.call('ZREM', active, unpack(removed))
local done = {}
for _, item in ipairs(accepted) do
  local id, verb, detail, found = item[1], item[2], item[3], item[4]
  if verb == 'complete' then
    if detail == '' then
      redis.call('HSET', prefix .. 'task:' .. id, 'state', 'COMPLETED', 'finished_ms', now)
    else
      redis.call('HSET', prefix .. 'task:' .. id, 'state', 'COMPLETED', 'finished_ms', now, 'result', detail)
    end
    done[#done + 1], done[#done + 2] = now, id
    if found[3] or found[4] then
      ended(id, 'COMPLETED', found[3], found[4])
    end
  elseif found[7] and goes_on[verb] then
    verbs.stop(id, detail, found)
  else
    verbs[verb](id, detail, found)
  end
end
local at = 4 * count + 4
while ARGV[at] do
  local u, calls = upstream(ARGV[at]), ARGV[at + 5] == '0' and removed or {}
  for place = at + 6, at + 5 + tonumber(ARGV[at + 5]) do
    calls[#calls + 1] = places[tonumber(ARGV[place])]
  end
  if #calls > 0 then
    hear(u, tonumber(ARGV[at + 1]), ARGV[at + 2], calls, ARGV[at + 3], tonumber(ARGV[at + 4]))
  end
  at = at + 6 + tonumber(ARGV[at + 5])
end
for need in pairs(held) do
  local name = string.match(need, ' (.+)$')
  if name and has_tickets(name) then
    local ids = {}
    for _, item in ipairs(accepted) do
      if item[4][6] == need then
        ids[#ids + 1] = item[1]
      end
    end
    free(name, ids)
  end
end
-- Parked though their upstream lets calls begin, as after a guard that waited in
-- vain: not at once again, or they would go round and round.
for name in pairs(parked_now) do
  local u = upstream(name)
  if u.state == 'closed' and u.tap <= now then
    redis.call('ZADD', prefix .. 'tasks:parked', 'XX', now + 1000, name)
    redis.pcall('ZADD', marker, now + 1000, 'due')
  end
end
if #done > 0 then
  redis.call('ZADD', completed, unpack(done))
end
return refused and words or count
