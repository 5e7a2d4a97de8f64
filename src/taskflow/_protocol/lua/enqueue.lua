-- enqueue.lua: store tasks, each with its record, its home and its key.
--
-- Moves    nothing -> PENDING (primary), or SCHEDULED when delayed
-- KEYS[1]  primary    list of task ids, next one at the left end
-- KEYS[2]  scheduled  zset, task id -> due time (ms)
-- KEYS[3]  marker     zset that wakes a waiting worker
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  count      of tasks, 1..100; then four values for each:
--                     id, payload, spec, and options: '' or a JSON object
--                     with delay, expires, key, key_ttl (ms), digest, upstream
--                     ('weight name')
-- Touches  task:<id>, tasks:key:<key>, tasks:parked:*, tasks:tombstones:primary
-- Returns  count when all were stored; else a list of words, one per task:
--          OK, 'EXISTS id', 'CONFLICT id'
-- Cost     O(n)
-- Why      One script, because a record without a home is a lost task and a
--          home without a record is a ghost. The first write is an HSET, so
--          a full server refuses the call whole.
local primary, scheduled, marker = KEYS[1], KEYS[2], KEYS[3]
local count = tonumber(ARGV[3])
-- @include clock
-- @include idempotency
-- @include lanes
-- @include parking

redis.call('LLEN', primary)
local words, refused, stored, seen, holders = {}, false, {}, {}, {}

local function check(id, payload, spec, options)
  if seen[id] or redis.call('EXISTS', prefix .. 'task:' .. id) == 1 then
    return 'OK'
  end
  if options and options.key then
    local held = holders[options.key] or redis.call('GET', prefix .. 'tasks:key:' .. options.key)
    local holder, digest = string.match(held or '', '^(%S+) (%S+)$')
    if holder and (holders[options.key] or is_held(options.key, holder)) then
      return (digest == options.digest and 'EXISTS ' or 'CONFLICT ') .. holder
    end
    holders[options.key] = id .. ' ' .. options.digest
  end
  seen[id] = true
  stored[#stored + 1] = { id = id, payload = payload, spec = spec, options = options }
  return 'OK'
end

for i = 1, count do
  local at = i * 4
  local options = ARGV[at + 3] ~= '' and cjson.decode(ARGV[at + 3]) or nil
  words[i] = check(ARGV[at], ARGV[at + 1], ARGV[at + 2], options)
  refused = refused or words[i] ~= 'OK'
end

local ready, is_ready = {}, false
local has_struck = redis.call('EXISTS', tombstones('primary')) == 1
local first = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]
for _, task in ipairs(stored) do
  local record, options = prefix .. 'task:' .. task.id, task.options or {}
  local due = options.delay and now + options.delay
  redis.call('HSET', record, 'state', due and 'SCHEDULED' or 'PENDING',
    'lane', 'primary', 'payload', task.payload, 'spec', task.spec, 'created_ms', now)
  if options.upstream then
    redis.call('HSET', record, 'upstream', options.upstream)
  end
  if options.expires then
    redis.call('HSET', record, 'expires_ms', now + options.expires)
  end
  if options.key then
    redis.call('HSET', record, 'key', string.format('%d %s %s', options.key_ttl, options.digest, options.key))
    redis.call('SET', prefix .. 'tasks:key:' .. options.key, task.id .. ' ' .. options.digest)
  end
  if due then
    redis.call('ZADD', scheduled, due, task.id)
    if not first or due < tonumber(first) then
      first = due
      redis.pcall('ZADD', marker, due, 'due')
    end
  else
    local name = options.upstream and string.match(options.upstream, ' (.+)$')
    if name and has_parked(name) then
      park(task.id, name, 'primary', 'RPUSH')
    else
      is_ready = true
      -- Where a task of this id was deleted while it waited, its entry serves again.
      if not has_struck or redis.call('SREM', tombstones('primary'), task.id) == 0 then
        ready[#ready + 1] = task.id
      end
    end
  end
end
if #ready > 0 then
  redis.call('RPUSH', primary, unpack(ready))
end
if is_ready then
  redis.pcall('ZADD', marker, 0, 'work')
end
return refused and words or count
