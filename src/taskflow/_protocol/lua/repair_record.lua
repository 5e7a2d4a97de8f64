-- repair_record.lua: put right what a task's record says, where it stands already.
--
-- Moves    ACTIVE without a token -> PENDING (retry lane)
-- KEYS[1]  active     zset, task id -> lease end (ms)
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  completed  zset, task id -> end time (ms)
-- KEYS[4]  failed     zset, task id -> end time (ms)
-- KEYS[5]  cancelled  zset, task id -> end time (ms)
-- KEYS[6]  dlq        zset, task id -> time of death (ms)
-- KEYS[7]  retry      list of task ids
-- KEYS[8]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task; '' = the groups alone
-- ARGV[4]  lease      ms; the longest that is given
-- ARGV[5]  upstreams  how many may have given it a ticket; their names follow,
--                     then fingerprints of groups in which it may stand
-- Touches  task:<id>, dlq:*, tasks:key:*, upstream:<name>:*, tasks:parked,
--          worker:heartbeat:<id>
-- Returns  list of words, what was put right: counters, fields, history, token,
--          lease, key, letter, group, ticket; empty when nothing was wrong
-- Cost     O(history)
-- Why      What stands in its one home may still say what cannot be: repair_placement.lua
--          has seen to its place, this to its contents.
local active, scheduled, completed = KEYS[1], KEYS[2], KEYS[3]
local failed, cancelled, dlq = KEYS[4], KEYS[5], KEYS[6]
local retry, marker = KEYS[7], KEYS[8]
local id, lease, count = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local names, fingerprints = { unpack(ARGV, 6, 5 + count) }, { unpack(ARGV, 6 + count) }
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include lanes
-- @include parking
-- @include idempotency
-- @include ending
-- @include indexes
-- @include snapshot

local facts, found = sight(id, fingerprints)
local record, state, letter = prefix .. 'task:' .. id, facts[2], facts[14]
local is_record = state ~= '' and state ~= 'foreign'
local is_dead = state == 'DLQ' and letter[1] ~= nil
local is_final = state == 'COMPLETED' or state == 'FAILED' or state == 'CANCELLED'
local stored = is_record and redis.call('HMGET', record, 'key', 'history', 'error') or {}
local words = {}
local function right(word)
  words[#words + 1] = word
end
-- Who is alive renews its leases itself, and may give longer ones than we know of.
local function is_alive(token)
  return redis.call('EXISTS', prefix .. 'worker:heartbeat:' .. (string.match(token, '^%d+:([^:]*):') or '')) == 1
end
local function stands_in(key)
  return type(redis.pcall('ZSCORE', key, id)) == 'string'
end
redis.call('LLEN', retry)
make_room()

-- Without its group a letter would be missing where people look for it.
for _, fingerprint in ipairs(fingerprints) do
  local group = prefix .. 'dlq:group:' .. fingerprint
  local kind, left = redis.call('TYPE', group).ok, 0
  if kind ~= 'zset' and kind ~= 'none' then
    left = redis.call('DEL', group) -- of a foreign type
  end
  if not is_dead or letter[2] ~= fingerprint then
    left = left + redis.call('ZREM', group, id)
  end
  local last = redis.call('ZREVRANGE', group, 0, 0, 'WITHSCORES')[2]
  if not last then
    left = left + redis.call('ZREM', prefix .. 'dlq:groups', fingerprint)
  elseif not redis.call('ZSCORE', prefix .. 'dlq:groups', fingerprint) then
    left = left + redis.call('ZADD', prefix .. 'dlq:groups', last, fingerprint)
  end
  if left > 0 then
    right('group')
  end
end
if found.upstream then
  names[#names + 1] = string.match(found.upstream, ' (.+)$')
end
for _, name in ipairs(state ~= 'ACTIVE' and names or {}) do
  local key = prefix .. 'upstream:' .. name
  if stands_in(key .. ':permits') or stands_in(key .. ':probes') then
    free(name, { id })
    right('ticket')
  end
end
if not is_record then
  return words
end

for i, name in ipairs({ 'attempts', 'crashes', 'age_ms' }) do
  if facts[5 + i] ~= '' and not string.match(facts[5 + i], '^%d+$') then
    redis.call('HDEL', record, name)
    facts[5 + i] = ''
    right('counters')
  end
end
local scored = homes[state] and redis.call('ZSCORE', homes[state], id)
local ended_ms = tonumber(facts[11]) or string.match(scored or '', '^%d+$') or now
local born = redis.call('HSETNX', record, 'created_ms', (is_final or is_dead) and ended_ms or now)
local laned = state ~= 'PENDING' and redis.call('HSETNX', record, 'lane', 'retry') or 0
local told = (is_final or is_dead) and facts[11] == '' and 1 or 0
if told == 1 then
  redis.call('HSET', record, 'finished_ms', ended_ms)
end
if born + laned + told > 0 then
  right('fields')
end
if facts[10] > 20 then
  local kept = {}
  for line in string.gmatch(stored[2], '[^\n]+') do
    kept[#kept + 1] = line
  end
  redis.call('HSET', record, 'history', table.concat(kept, '\n', math.max(1, #kept - 19)))
  right('history')
end
local ttl, _, name = parse_key(stored[1])
if facts[13] ~= '' and (state == 'FAILED' or state == 'CANCELLED') then
  drop_key(name, id)
  right('key')
elseif facts[13] == 'stays' and (is_final or state == 'DLQ') then
  if type(redis.pcall('PEXPIRE', prefix .. 'tasks:key:' .. name, ttl)) == 'table' then
    redis.call('DEL', prefix .. 'tasks:key:' .. name) -- for a time that is none
  end
  right('key')
elseif facts[13] == 'ends' and not is_final and state ~= 'DLQ' then
  redis.call('PERSIST', prefix .. 'tasks:key:' .. name)
  right('key')
end
if is_dead then
  local fingerprint = string.match(letter[2], '^[%w_%-]+$') or 'corrupt'
  local is_odd = #letter[5] > 0 or not stands_in(prefix .. 'dlq:group:' .. fingerprint)
    or letter[1] ~= 'corrupt' and (tonumber(letter[3]) or 0) ~= (tonumber(facts[6]) or 0)
    or letter[1] ~= 'corrupt' and (tonumber(letter[4]) or 0) ~= (tonumber(facts[7]) or 0)
  if is_odd then
    local key = prefix .. 'dlq:task:' .. id
    if redis.call('TYPE', key).ok ~= 'hash' then
      redis.call('DEL', key) -- of a foreign type
    end
    redis.call('HSETNX', key, 'cause', 'corrupt')
    redis.call('HSETNX', key, 'error', stored[3] or problem('CorruptRecord', 'the dead letter was torn'))
    redis.call('HSETNX', key, 'died_ms', ended_ms)
    redis.call('HSET', key, 'fingerprint', fingerprint, 'attempts', facts[6] ~= '' and facts[6] or 0,
      'crashes', facts[7] ~= '' and facts[7] or 0)
    join_group(id, fingerprint, ended_ms)
    right('letter')
  end
end
if state == 'ACTIVE' then
  if redis.call('HDEL', record, 'parked') == 1 then
    right('fields')
  end
  if not string.match(facts[5], '^%d+:[%w_.-]+:%S+$') then
    redis.call('ZREM', active, id)
    for _, name in ipairs(names) do
      free(name, { id })
    end
    redis.call('HSET', record, 'state', 'PENDING', 'lane', 'retry', 'since_ms', now, 'token', (string.match(facts[5], '^%d+') or 0) .. '::')
    redis.call('RPUSH', retry, id)
    redis.pcall('ZADD', marker, 0, 'work')
    right('token')
  elseif facts[12] ~= '' and tonumber(facts[12]) > now + lease and not is_alive(facts[5]) then
    redis.call('ZADD', active, now + lease, id)
    right('lease')
  end
end
return words
