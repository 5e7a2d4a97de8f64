-- status.lua: count every home and say what the lanes do.
--
-- Moves    none
-- KEYS[1]  primary    list of task ids
-- KEYS[2]  retry      list of task ids
-- KEYS[3]  suspects   list of task ids
-- KEYS[4]  active     zset
-- KEYS[5]  scheduled  zset
-- KEYS[6]  completed  zset
-- KEYS[7]  dlq        zset
-- KEYS[8]  failed     zset
-- KEYS[9]  cancelled  zset
-- KEYS[10] lanes      hash: credit of the retry lane, pauses, what was served
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  ratio      share of the retry lane while few retries wait, 0..1
-- ARGV[4]  warning    retries waiting from which the share falls
-- ARGV[5]  critical   retries waiting at which it is lowest
-- ARGV[6]  max_age    ms; age of the oldest retry at which the share is back up
-- Touches  the heads of the lists, tasks:tombstones:*, tasks:parked*, read only
-- Returns  {now, primary, retry, suspects, active, scheduled, completed, dlq,
--          failed, cancelled, age of the oldest in primary and in retry (ms,
--          -1 = empty), target share as text, served from primary and from
--          retry in the last minute, primary paused, retry paused, parked}
-- Cost     O(u) for u upstreams with parked tasks
-- Why      Cardinalities of homes: they cannot drift, and nothing is scanned.
local primary, retry, suspects = KEYS[1], KEYS[2], KEYS[3]
local active, scheduled, completed = KEYS[4], KEYS[5], KEYS[6]
local dlq, failed, cancelled, lanes = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local ratio, warning, critical, max_age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- @include clock
-- @include share
-- @include lanes
-- @include parking

local function waiting(list, lane)
  return redis.call('LLEN', list) - redis.call('SCARD', tombstones(lane))
end

local function age(list)
  local head = redis.call('LINDEX', list, 0)
  if not head then
    return -1
  end
  local since = redis.pcall('HMGET', prefix .. 'task:' .. head, 'since_ms', 'created_ms')
  return math.max(0, now - (tonumber(since[1] or since[2]) or now))
end

local served_primary, served_retry = 0, 0
local slot = math.floor(now / 5000)
for i = 0, 11 do
  local stamp, p, r = string.match(redis.call('HGET', lanes, 'served' .. i) or '', '^(%d+) (%d+) (%d+)$')
  if stamp and slot - tonumber(stamp) < 12 then
    served_primary, served_retry = served_primary + p, served_retry + r
  end
end
local parked = 0
for _, name in ipairs(redis.call('ZRANGE', prefix .. 'tasks:parked', 0, 999)) do
  for _, lane in ipairs({ 'primary', 'retry', 'suspects' }) do
    parked = parked + redis.call('LLEN', parked_list(name, lane)) - redis.call('SCARD', tombstones(lane, name))
  end
end
local depth = waiting(retry, 'retry')
return {
  now,
  waiting(primary, 'primary'), depth, waiting(suspects, 'suspects'),
  redis.call('ZCARD', active), redis.call('ZCARD', scheduled), redis.call('ZCARD', completed),
  redis.call('ZCARD', dlq), redis.call('ZCARD', failed), redis.call('ZCARD', cancelled),
  age(primary), age(retry),
  tostring(retry_share(depth, ratio, warning, critical, max_age)),
  served_primary, served_retry,
  redis.call('HEXISTS', lanes, 'paused:primary'), redis.call('HEXISTS', lanes, 'paused:retry'),
  parked,
  redis.call('HGET', lanes, 'lost_ms') or 0,
}
