-- promote: bring what is due from the schedule to its lane, oldest first.
-- Needs   prefix, now, quarantine, parking, lanes.  Gives  promote_due(limit) -> count.
local function promote_due(limit)
  local scheduled = prefix .. 'tasks:scheduled'
  local due = redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'LIMIT', 0, limit)
  if #due == 0 then
    return 0
  end
  redis.call('ZREM', scheduled, unpack(due))
  for _, id in ipairs(due) do
    local record = prefix .. 'task:' .. id
    local found = redis.pcall('HMGET', record, 'state', 'lane', 'upstream')
    if found.err then
      quarantine(id, found.err)
    elseif not found[1] and redis.call('EXISTS', record) == 1 then
      quarantine(id, 'the record has no state')
    elseif found[1] == 'SCHEDULED' then
      local lane = lane_of(found[2], 'retry')
      local name = found[3] and string.match(found[3], ' (.+)$')
      redis.call('HSET', record, 'state', 'PENDING', 'since_ms', now, 'lane', lane)
      if name and has_parked(name) then
        park(id, name, lane, 'RPUSH')
      elseif lane == 'suspects' then
        redis.call('RPUSH', prefix .. 'tasks:suspects', id)
      else
        redis.call('RPUSH', prefix .. 'tasks:pending:' .. lane, id)
      end
    end
  end
  redis.pcall('ZADD', prefix .. 'tasks:marker', 0, 'work')
  return #due
end
