-- deliver: give one waiting task its lease, or the place it belongs to.
-- Needs   all that claim.lua includes and binds above it.  Gives  reply, leases,
--         handed, slot, has_holds, is_full(), repeated(), hand_over(id, lane, source),
--         next_look().
local reply, leases, handed, bytes = { 0, 0, '' }, {}, {}, 0
local own = ':' .. worker .. ':' .. nonce
local slot = 'claim' .. string.match(nonce, '^%d+')
local has_holds = false

local function read(id)
  return redis.pcall('HMGET', prefix .. 'task:' .. id, 'state', 'token', 'payload', 'spec', 'attempts',
    'crashes', 'age_ms', 'expires_ms', 'checkpoint', 'key', 'watched', 'lane', 'upstream')
end

local function answer(id, lane, delivery, found, admitted)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = id, lane, delivery
  reply[n + 4], reply[n + 5] = found[3], found[4]
  reply[n + 6], reply[n + 7], reply[n + 8] = tonumber(found[5]) or 0, tonumber(found[6]) or 0, tonumber(found[7]) or 0
  reply[n + 9], reply[n + 10] = found[9] or '', admitted
  bytes = bytes + #(found[3] or '') + #reply[n + 9]
end

local function is_full()
  return bytes >= most_bytes
end

-- What a record says that it needs, 'weight name'; read once for all that say so.
-- What is no such thing is no need.
local needs = {}
local function need_of(text)
  local need = needs[text]
  if not need then
    local weight, name = string.match(text, '^([%d.e+-]+) ([%w_.:-]+)$')
    weight = tonumber(weight)
    local is_one = weight and weight >= 0 and weight < NEVER
    need = is_one and { upstream = upstream(name), weight = weight } or {}
    needs[text] = need
  end
  return need
end

-- Whether this call was made before: then its tasks are answered again, as many as
-- fit; the caller fetches the rest by the id of the last one.
local function repeated()
  local last = redis.call('HGET', worker_hash, slot) or ''
  if string.match(last, '^(%S+)') ~= nonce then
    return false
  end
  local ids = after == '' and last or string.match(last, ' ' .. string.gsub(after, '%p', '%%%0') .. '( .*)$') or ''
  for id in string.gmatch(ids, ' (%S+)') do
    if is_full() then
      reply[3] = 'claimed'
      break
    end
    local found = read(id)
    local delivery = not found.err and found[1] == 'ACTIVE' and string.match(found[2] or '', '^(%d+)' .. string.gsub(own, '%p', '%%%0') .. '$')
    if delivery then
      local u = found[13] and need_of(found[13]).upstream
      local probe = u and type(redis.pcall('ZSCORE', u.key .. ':probes', id)) == 'string'
      answer(id, found[12], delivery, found, u and string.format('%s %d %d', found[13], u.epoch, probe and 1 or 0) or '')
    end
  end
  reply[1] = now
  return true
end

-- Whether the upstream lets the task run now; it is parked otherwise, or put back
-- to the head of the list that it was taken from.
local function admitted(id, lane, u, weight, source)
  local waiting_before = depth(u, lane)
  if (u == source or waiting_before == 0) and take(u, weight, id) then
    return true
  elseif u == source then
    unfit[#unfit + 1] = { id, parked_list(u.name, lane) }
  else
    park(id, u.name, lane, 'RPUSH')
  end
  u.parked, u.depth[lane] = true, waiting_before + 1
  return false
end

-- The upstreams that have a say: the hold on the task's name, and its own.
local function has_leave(id, lane, found, source)
  local hold = source and string.sub(source.name, 1, 5) == 'task:' and source
  if not hold and has_holds then
    local name = string.match(found[4], '^%[%d+,"([^"]+)"')
    hold = name and redis.call('SISMEMBER', prefix .. 'tasks:held', name) == 1 and upstream('task:' .. name)
  end
  if hold and not admitted(id, lane, hold, 0, source) then
    return false
  end
  if not found[13] then
    return true, ''
  end
  local need = need_of(found[13])
  if not need.upstream then
    return true, ''
  end
  if not admitted(id, lane, need.upstream, need.weight, source) then
    return false
  end
  local u = need.upstream
  need.answer = need.answer or string.format('%s %d %d', found[13], u.epoch, u.state == 'half-open' and 1 or 0)
  foresee(u, need.weight)
  return true, need.answer
end

-- Whether the popped entry was struck out; asked of the server only where some are.
local has_struck = {}
local function was_struck(id, lane, source)
  local key = tombstones(lane, source and source.name)
  if has_struck[key] == nil then
    has_struck[key] = redis.call('EXISTS', key) == 1
  end
  return has_struck[key] and redis.call('SREM', key, id) == 1
end

-- Hand over one popped id. False when it was no task to run: a tombstone, an
-- expired task, one whose upstream is shut, a record beyond reading.
local function hand_over(id, lane, source)
  if source then
    source.planned = source.planned - 1
  end
  local found = read(id)
  if found.err then
    quarantine(id, found.err)
    return false
  end
  local is_struck = was_struck(id, lane, source)
  if is_struck and found[1] == 'PENDING' then
    return false -- a later task of this id, which has an entry of its own
  end
  if found[1] ~= 'PENDING' then
    if source then
      redis.call('HDEL', prefix .. 'task:' .. id, 'parked')
    end
    if not found[1] and (found[3] or found[4]) then
      quarantine(id, 'the record has no state')
    end
    return false
  end
  if not found[3] or not found[4] then
    quarantine(id, 'the record has no payload or no spec')
    return false
  end
  local expires = tonumber(found[8])
  if expires and expires <= now then
    redis.call('HSET', prefix .. 'task:' .. id, 'state', 'FAILED', 'finished_ms', now,
      'error', '{"type":"Expired","message":"expired before it was claimed"}')
    redis.call('ZADD', failed, now, id)
    ended(id, 'FAILED', found[10], found[11])
    return false
  end
  local leave, upstream_answer = true, ''
  local known = not source and not has_holds and needs[found[13] or '']
  if known and known.upstream and known.upstream.free > 0 and known.upstream.free_weight == known.weight then
    take_next(known.upstream, id)
    upstream_answer = known.answer
  elseif found[13] or source or has_holds then
    leave, upstream_answer = has_leave(id, lane, found, source)
    if not leave then
      return false
    end
  end
  local record, delivery = prefix .. 'task:' .. id, (tonumber(string.match(found[2] or '', '^%d+')) or 0) + 1
  redis.call('HSET', record, 'state', 'ACTIVE', 'token', delivery .. own, 'started_ms', now)
  if source then
    redis.call('HDEL', record, 'parked')
  end
  leases[#leases + 1], leases[#leases + 2] = now + lease, id
  handed[#handed + 1] = id
  answer(id, lane, delivery, found, upstream_answer)
  return true
end

-- When there may be more to hand out: a task is due, or an upstream may admit again.
local function next_look()
  local due = tonumber(redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]) or NEVER
  local is_parked = has_parked_tasks
  for _, u in pairs(upstreams) do
    is_parked = is_parked or u.parked
  end
  if is_parked then
    local again = tonumber(redis.call('ZRANGE', prefix .. 'tasks:parked', 0, 0, 'WITHSCORES')[2]) or NEVER
    due = math.min(due, again)
  end
  return due < NEVER and due or 0
end
