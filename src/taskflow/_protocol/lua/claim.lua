-- claim.lua: hand waiting tasks to one worker, the retry lane's share among them.
--
-- Moves    PENDING -> ACTIVE; expired PENDING -> FAILED; due SCHEDULED -> PENDING
-- KEYS[1]  primary    list of task ids, next one at the left end
-- KEYS[2]  retry      list, likewise
-- KEYS[3]  suspects   list, likewise: tasks that crashed a worker twice
-- KEYS[4]  active     zset, task id -> lease end (ms)
-- KEYS[5]  scheduled  zset, task id -> due time (ms)
-- KEYS[6]  failed     zset, task id -> end time (ms)
-- KEYS[7]  lanes      hash: credit of the retry lane, pauses, what was served
-- KEYS[8]  marker     zset that wakes a waiting worker
-- KEYS[9]  worker     hash of the calling worker; keeps its last claims
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  worker     id, part of the token
-- ARGV[4]  nonce      '<channel>-<number>' of this call; a repeat answers the same tasks
-- ARGV[5]  slots      most tasks to hand out, 1..100
-- ARGV[6]  lease      ms
-- ARGV[7]  suspect    1 = the caller runs no suspect and may be given one
-- ARGV[8]  ratio      share of the retry lane while few retries wait, 0..1
-- ARGV[9]  warning    retries waiting from which the share falls
-- ARGV[10] critical   retries waiting at which it is lowest
-- ARGV[11] max_age    ms; age of the oldest retry at which the share is back up
-- Touches  task:<id>, tasks:tombstones:<lane>, dlq:* for records beyond reading
-- Returns  {now, due time of the next scheduled task or 0, then per task: id,
--          lane, delivery, payload, spec, attempts, crashes, misses, age base
--          (ms), checkpoint}
-- Cost     O(n log m): n handed out, m leased; examines at most slots + 100 ids
-- Why      One script, because a worker that dies between the pop and the
--          lease would otherwise lose the task for good.
local primary, retry, suspects = KEYS[1], KEYS[2], KEYS[3]
local active, scheduled, failed = KEYS[4], KEYS[5], KEYS[6]
local lanes, marker, worker_hash = KEYS[7], KEYS[8], KEYS[9]
local worker, nonce, slots, lease = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local may_suspect = ARGV[7] == '1'
local ratio, warning, critical, max_age = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
-- @include clock
-- @include roomy
-- @include bury
-- @include quarantine
-- @include promote
-- @include share
-- @include lanes
-- @include ending

local reply, leases, handed = { 0, 0 }, {}, {}
local own = ':' .. worker .. ':' .. nonce

local function read(id)
  return redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'token', 'payload', 'spec', 'attempts',
    'crashes', 'misses', 'created_ms', 'fresh_ms', 'expires_ms', 'checkpoint', 'key', 'watched', 'lane')
end

local function answer(id, lane, delivery, found)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = id, lane, delivery
  reply[n + 4], reply[n + 5] = found[3], found[4]
  reply[n + 6], reply[n + 7], reply[n + 8] = tonumber(found[5]) or 0, tonumber(found[6]) or 0, tonumber(found[7]) or 0
  reply[n + 9], reply[n + 10] = tonumber(found[9]) or tonumber(found[8]) or now, found[11] or ''
end

local slot = 'claim' .. string.match(nonce, '^%d+')
local last = redis.call('HGET', worker_hash, slot) or ''
if string.match(last, '^(%S+)') == nonce then
  for id in string.gmatch(last, ' (%S+)') do
    local found = read(id)
    local delivery = not found.err and found[1] == 'ACTIVE' and string.match(found[2] or '', '^(%d+)' .. string.gsub(own, '%p', '%%%0') .. '$')
    if delivery then
      answer(id, found[14], delivery, found)
    end
  end
  reply[1] = now
  return reply
end

-- Hand over one popped id. False when it was no task to run: a tombstone, an
-- expired task, a record beyond reading.
local function hand_over(id, lane)
  local found = read(id)
  if found.err then
    quarantine(id, found.err)
    return false
  end
  if found[1] ~= 'PENDING' then
    redis.call('SREM', tombstones(lane), id)
    if not found[1] and (found[3] or found[4]) then
      quarantine(id, 'the record has no state')
    end
    return false
  end
  if not found[3] or not found[4] then
    quarantine(id, 'the record has no payload or no spec')
    return false
  end
  local expires = tonumber(found[10])
  if expires and expires <= now then
    redis.call('HSET', prefix .. 'task:' .. id, 'state', 'FAILED', 'finished_ms', now,
      'error', '{"type":"Expired","message":"expired before it was claimed"}')
    redis.call('ZADD', failed, now, id)
    ended(id, 'FAILED', found[12], found[13])
    return false
  end
  local delivery = (tonumber(string.match(found[2] or '', '^%d+')) or 0) + 1
  redis.call('HSET', prefix .. 'task:' .. id, 'state', 'ACTIVE', 'token', delivery .. own, 'started_ms', now)
  leases[#leases + 1], leases[#leases + 2] = now + lease, id
  handed[#handed + 1] = id
  answer(id, lane, delivery, found)
  return true
end

make_room()
promote_due(100)
local bucket = 'served' .. math.floor(now / 5000) % 12
local kept = redis.call('HMGET', lanes, 'credit', bucket, 'paused:primary', 'paused:retry')
local credit = tonumber(kept[1] or 0)
local waiting = { primary = kept[3] and 0 or redis.call('LLEN', primary), retry = kept[4] and 0 or redis.call('LLEN', retry) }
local target = retry_share(waiting.retry, ratio, warning, critical, max_age)
local served = { primary = 0, retry = 0 }

if may_suspect and not kept[4] then
  local id = redis.call('LPOP', suspects)
  if id and hand_over(id, 'suspects') then
    served.retry = 1
  end
  if id and redis.call('LLEN', suspects) > 0 then
    redis.call('ZADD', marker, 0, 'work')
  end
end

-- Error diffusion: the lane whose turn it is, one task at a time, with one
-- accumulator for the fleet; an empty lane gives its turn away for nothing.
local function pick()
  local lane, charged = 'primary', waiting.primary > 0 and waiting.retry > 0
  if charged then
    credit = credit + target
    if credit >= 1 then
      lane, credit = 'retry', credit - 1
    end
  elseif waiting.retry > 0 then
    lane = 'retry'
  elseif waiting.primary == 0 then
    return nil
  end
  waiting[lane] = waiting[lane] - 1
  return { lane = lane, charged = charged }
end

local budget = slots + 100
while #handed < slots and budget > 0 do
  local turns, need = {}, { primary = 0, retry = 0 }
  for _ = 1, math.min(slots - #handed, budget) do
    local turn = pick()
    if not turn then
      break
    end
    turns[#turns + 1] = turn
    need[turn.lane] = need[turn.lane] + 1
  end
  if #turns == 0 then
    break
  end
  budget = budget - #turns
  local popped = {
    primary = need.primary > 0 and redis.call('LPOP', primary, need.primary) or {},
    retry = need.retry > 0 and redis.call('LPOP', retry, need.retry) or {},
  }
  local place = { primary = 0, retry = 0 }
  for _, turn in ipairs(turns) do
    place[turn.lane] = place[turn.lane] + 1
    if hand_over(popped[turn.lane][place[turn.lane]], turn.lane) then
      served[turn.lane] = served[turn.lane] + 1
    elseif turn.charged then
      credit = credit + (turn.lane == 'retry' and 1 or 0) - target
    end
  end
end

if waiting.primary + waiting.retry > 0 then
  redis.call('ZADD', marker, 0, 'work')
end
if #handed > 0 then
  redis.call('ZADD', active, unpack(leases))
  redis.call('HSET', worker_hash, slot, nonce .. ' ' .. table.concat(handed, ' '))
  redis.call('PEXPIRE', worker_hash, lease * 4)
  local stamp, p, r = string.match(kept[2] or '', '^(%d+) (%d+) (%d+)$')
  if tonumber(stamp) ~= math.floor(now / 5000) then
    p, r = 0, 0
  end
  redis.call('HSET', lanes, 'credit', credit, bucket,
    string.format('%d %d %d', math.floor(now / 5000), p + served.primary, r + served.retry))
end
reply[1] = now
reply[2] = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2] or 0
return reply
