-- outcomes: what settling does with a run that has not simply completed.
-- Needs   prefix, now, dead_letter, history, lanes, parking, settle_moves, crash; the keys that
--         settle.lua binds.
--         Gives  verbs.<verb>(id, detail, found), goes_on (verb -> true),
--         parked_now (upstream -> true).
local verbs, parked_now = {}, {}
local goes_on = { retry = true, snooze = true, release = true, park = true }

-- It was asked to stop while it ran, and would run again.
function verbs.stop(id, detail, found)
  if detail ~= '' then
    remember(id, detail.entry)
  end
  finish(id, 'CANCELLED', cancelled, '{"type":"Cancelled","message":"cancelled while it ran"}', found)
end

function verbs.retry(id, detail, found)
  local record = prefix .. 'task:' .. id
  if detail.counts == 1 then
    redis.pcall('HINCRBY', record, 'attempts', 1)
  end
  redis.call('HSET', record, 'error', detail.error, 'age_ms', detail.age)
  remember(id, detail.entry)
  later(id, found[5] == 'suspects' and 'suspects' or 'retry', detail.delay)
end

function verbs.snooze(id, detail, found)
  remember(id, detail.entry, detail.once == 1)
  later(id, found[5], detail.delay)
end

function verbs.dead(id, detail, found)
  local record = prefix .. 'task:' .. id
  if detail.counts == 1 then
    redis.pcall('HINCRBY', record, 'attempts', 1)
  end
  redis.call('HSET', record, 'state', 'DLQ', 'error', detail.error, 'finished_ms', now)
  remember(id, detail.entry)
  local tally = redis.call('HMGET', record, 'attempts', 'crashes')
  bury(id, { cause = detail.cause, fingerprint = detail.fingerprint, error = detail.error,
    traceback = detail.traceback or '', attempts = tally[1] or 0, crashes = tally[2] or 0,
    worker = string.match(found[2], '^%d+:(.*):[^:]*$') })
  ended(id, 'DLQ', found[3], found[4])
end

function verbs.fail(id, detail, found)
  if detail.counts == 1 then
    redis.pcall('HINCRBY', prefix .. 'task:' .. id, 'attempts', 1)
  end
  remember(id, detail.entry)
  finish(id, 'FAILED', failed, detail.error, found)
end

function verbs.cancel(id, detail, found)
  remember(id, detail.entry)
  finish(id, 'CANCELLED', cancelled, detail.error, found)
end

function verbs.release(id, _, found)
  back(id, found, false)
end

-- Its upstream would not have it, which is no fault of its own.
function verbs.park(id, detail, found)
  redis.call('HSET', prefix .. 'task:' .. id, 'error', detail.error)
  remember(id, detail.entry)
  back(id, found, true, detail.at_end == 1)
  local name = found[6] and string.match(found[6], ' (.+)$')
  if name then
    parked_now[name] = true
  end
end

-- Its process died and its worker lives; reap.lua does the same where both died.
function verbs.crash(id, detail, found)
  local record = prefix .. 'task:' .. id
  local _, worker = string.match(found[2], '^(%d+):(.*):[^:]*$')
  local crashes = redis.pcall('HINCRBY', record, 'crashes', 1)
  crashes = type(crashes) == 'number' and crashes or detail.max_crashes
  redis.call('HSET', record, 'error', detail.error, 'since_ms', now)
  remember(id, detail.entry)
  redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*', 'event', 'crashed', 'id', id,
    'worker', worker or '', 'crashes', crashes, 'how', detail.how, 'at_ms', now)
  crashed(id, crashes, detail.max_crashes, { cancel = redis.call('HGET', record, 'cancel'), key = found[3],
    watched = found[4], upstream = found[6] and string.match(found[6], ' (.+)$'), worker = worker,
    cancelled = 'cancelled; ' .. detail.how,
    poison = string.format('it killed its process %d times; the last time %s', crashes, detail.how) })
  redis.pcall('ZADD', marker, 0, 'work')
end
