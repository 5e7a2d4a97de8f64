-- claim.lua: hand waiting tasks to one worker, the retry lane's share among them.
--
-- Moves    PENDING -> ACTIVE; expired PENDING -> FAILED; due SCHEDULED -> PENDING;
--          PENDING is parked while its upstream may not be called
-- KEYS[1]  primary    list of task ids, next one at the left end
-- KEYS[2]  retry      list, likewise
-- KEYS[3]  suspects   list, likewise: tasks that crashed a worker twice
-- KEYS[4]  active     zset, task id -> lease end (ms)
-- KEYS[5]  scheduled  zset, task id -> due time (ms)
-- KEYS[6]  failed     zset, task id -> end time (ms)
-- KEYS[7]  lanes      hash: credit of the retry lane, pauses, holds, what was served
-- KEYS[8]  marker     zset that wakes a waiting worker
-- KEYS[9]  worker     hash of the calling worker; keeps its last claims
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  worker     id, part of the token
-- ARGV[4]  nonce      '<channel>-<number>' of this call; a repeat answers the same tasks
-- ARGV[5]  slots      most tasks to hand out, 0..100; 0 = none but those of a repeat
-- ARGV[6]  lease      ms
-- ARGV[7]  suspect    1 = the caller runs no suspect and may be given one
-- ARGV[8]  ratio      share of the retry lane while few retries wait, 0..1
-- ARGV[9]  warning    retries waiting from which the share falls
-- ARGV[10] critical   retries waiting at which it is lowest
-- ARGV[11] max_age    ms; age of the oldest retry at which the share is back up
-- ARGV[12] most_bytes of payloads and checkpoints; once they are reached, no task is
--                     added, so that one task is always among them
-- ARGV[13] after      last task of this call that the caller has; a repeat answers
--                     those after it; '' = from the first
-- Touches  task:<id>, tasks:tombstones:*, tasks:parked:*, upstream:*, tasks:held,
--          tasks:events, dlq:* for records beyond reading
-- Returns  {now, when there may be more (ms) or 0, what most_bytes left out: '',
--          'waiting' or 'claimed' (by the repeated call), then per task: id, lane,
--          delivery, payload, spec, attempts, crashes, age (ms), checkpoint,
--          '' or 'weight name epoch probe' of its upstream}; if the
--          server has no rules of an upstream, the second is a list of that time and
--          the names, and their tasks are parked until somebody declares them
-- Cost     O(n log m): n handed out, m leased; examines at most slots + 100 ids and
--          ten upstreams, however much is parked
-- Why      One script, because a worker that dies between the pop and the
--          lease would otherwise lose the task for good.
local primary, retry, suspects = KEYS[1], KEYS[2], KEYS[3]
local active, scheduled, failed = KEYS[4], KEYS[5], KEYS[6]
local lanes, marker, worker_hash = KEYS[7], KEYS[8], KEYS[9]
local worker, nonce, slots, lease = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local may_suspect = ARGV[7] == '1'
local ratio, warning, critical, max_age = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local most_bytes, after = tonumber(ARGV[12]), ARGV[13]
-- @include clock
-- @include free_memory
-- @include dead_letter
-- @include idempotency
-- @include ending
-- @include quarantine
-- @include parking
-- @include lanes
-- @include promote
-- @include share
-- @include upstream
-- @include admission
-- @include claim_sources
-- @include put_back
-- @include deliver

if repeated() then
  has_parked_tasks = redis.call('EXISTS', prefix .. 'tasks:parked') == 1
  reply[2] = next_look()
  return reply
end
local bucket = 'served' .. math.floor(now / 5000) % 12
local kept = redis.call('HMGET', lanes, 'credit', bucket, 'paused:primary', 'paused:retry', 'held')
make_room()
promote_due(100)
local credit, flip = tonumber(kept[1]) or 0, { primary = false, retry = false }
if not (credit > -2 and credit < 2) then
  credit = 0 -- not a number that was counted here
end
local open = { primary = not kept[3], retry = not kept[4], suspects = may_suspect and not kept[4] }
local waiting = { primary = open.primary and redis.call('LLEN', primary) or 0, retry = open.retry and redis.call('LLEN', retry) or 0 }
local target = retry_share(waiting.retry, ratio, warning, critical, max_age)
local served = { primary = 0, retry = 0 }
has_holds = kept[5]
find_sources()

if open.suspects then
  local id, u = redis.call('LPOP', suspects), nil
  if not id then
    u = next_source('suspects')
    id = u and redis.call('LPOP', parked_list(u.name, 'suspects'))
  end
  if id and hand_over(id, 'suspects', u) then
    served.retry = 1
  end
  if redis.call('LLEN', suspects) > 0 then
    redis.pcall('ZADD', marker, 0, 'work')
  end
end

-- Error diffusion: the lane whose turn it is, one task at a time, with one
-- accumulator for the fleet; an empty lane gives its turn away for nothing. Within a
-- lane, parked tasks that may go on and all others take turns.
local function pick()
  local has_primary, has_retry, ready_primary, ready_retry = waiting.primary > 0, waiting.retry > 0, 0, 0
  if #sources > 0 then
    ready_primary, ready_retry = open.primary and ready('primary') or 0, open.retry and ready('retry') or 0
    has_primary, has_retry = has_primary or ready_primary > 0, has_retry or ready_retry > 0
  end
  local lane, charged = 'primary', has_primary and has_retry
  if charged then
    credit = credit + target
    if credit >= 1 then
      lane, credit = 'retry', credit - 1
    end
  elseif has_retry then
    lane = 'retry'
  elseif not has_primary then
    return nil
  end
  if (lane == 'retry' and ready_retry or ready_primary) > 0 and (not flip[lane] or waiting[lane] == 0) then
    flip[lane] = true
    local u = next_source(lane)
    return { lane = lane, charged = charged, source = u, list = parked_list(u.name, lane) }
  end
  flip[lane], waiting[lane] = false, waiting[lane] - 1
  return { lane = lane, charged = charged, list = lane == 'primary' and primary or retry }
end

local budget = slots + 100
while #handed < slots and budget > 0 and not is_full() do
  local turns, need, popped, back = {}, {}, {}, {}
  for _ = 1, math.min(slots - #handed, budget) do
    local turn_taken = pick()
    if not turn_taken then
      break
    end
    turns[#turns + 1] = turn_taken
    need[turn_taken.list] = (need[turn_taken.list] or 0) + 1
  end
  if #turns == 0 then
    break
  end
  budget = budget - #turns
  for list, count in pairs(need) do
    popped[list] = { ids = redis.call('LPOP', list, count), at = 0 }
  end
  for _, each in ipairs(turns) do
    local stock = popped[each.list]
    stock.at = stock.at + 1
    local id = stock.ids[stock.at]
    if is_full() then
      leave_out(id, each, waiting)
    elseif hand_over(id, each.lane, each.source) then
      served[each.lane], each.charged = served[each.lane] + 1, false
    end
    if each.charged then
      credit = credit + (each.lane == 'retry' and 1 or 0) - target
    end
  end
end
put_back()

keep_admissions()
if keep_parked(open) or waiting.primary + waiting.retry > 0 then
  redis.pcall('ZADD', marker, 0, 'work')
  reply[3] = is_full() and 'waiting' or ''
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
reply[1], reply[2] = now, with_unknown(next_look())
return reply
