-- crash: where a task goes that its worker, or its process, died of.
-- Needs   prefix, now, dead_letter, ending, parking.
--         Gives  crashed(id, crashes, most, of) -> retry, suspects, poison or
--         cancelled; of has cancel, key, watched and upstream of the record, worker,
--         and of a poison and of a cancelled one what to say.
-- A crash is no attempt. The first goes to the head of retry; from the second on a
-- task runs alone, so that a pill is not mistaken for its neighbours.
local function crashed(id, crashes, most, of)
  local record = prefix .. 'task:' .. id
  if of.cancel then
    redis.call('HSET', record, 'state', 'CANCELLED', 'finished_ms', now, 'error',
      problem('Cancelled', of.cancelled))
    redis.call('ZADD', prefix .. 'tasks:cancelled', now, id)
    ended(id, 'CANCELLED', of.key, of.watched)
    return 'cancelled'
  end
  if crashes >= most then
    local why = problem('Poison', of.poison)
    redis.call('HSET', record, 'state', 'DLQ', 'finished_ms', now, 'error', why)
    bury(id, { cause = 'poison', fingerprint = 'poison', error = why, crashes = crashes, worker = of.worker,
      attempts = redis.call('HGET', record, 'attempts') or 0 })
    ended(id, 'DLQ', of.key, of.watched)
    return 'poison'
  end
  if crashes >= 2 then
    redis.call('HSET', record, 'state', 'PENDING', 'lane', 'suspects')
    redis.call('RPUSH', prefix .. 'tasks:suspects', id)
    return 'suspects'
  end
  redis.call('HSET', record, 'state', 'PENDING', 'lane', 'retry')
  if of.upstream and has_parked(of.upstream) then
    park(id, of.upstream, 'retry', 'LPUSH')
  else
    redis.call('LPUSH', prefix .. 'tasks:pending:retry', id)
  end
  return 'retry'
end
