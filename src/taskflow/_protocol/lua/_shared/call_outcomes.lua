-- call_outcomes: what ended calls say of their upstream, and what follows from it.
-- Needs   prefix, now, upstream.lua.  Gives  hear(u, epoch, outcome, ids, why, wait).
-- A outcome is success, failure, neutral, tap (wait until it is over) or refused
-- (our key or our credit: shut, with a reason, for `wait` ms). Calls that began
-- before the last turn are not heard, and while half-open only the probes are.
local function open_again(u, reason)
  local wait = math.min(u.reset * 2 ^ math.min(u.opens, 30), u.longest)
  turn(u, 'open', 'failures', reason, now + math.floor(wait))
end

-- Count ended calls in the window; open when too many of them failed.
local function tally(u, good, bad)
  local slot = math.floor(now / math.max(1, math.floor(u.window / 20)))
  local field = 'w' .. slot % 20
  local stamp, failed, calls = string.match(redis.call('HGET', u.key, field) or '', '^(%d+) (%d+) (%d+)$')
  if tonumber(stamp) ~= slot then
    failed, calls = 0, 0
  end
  redis.call('HSET', u.key, field, string.format('%d %d %d', slot, failed + bad, calls + good + bad))
  if u.consecutive > 0 and bad == 0 then
    redis.call('HSET', u.key, 'row', 0)
  end
  if bad == 0 then
    return
  end
  local row = redis.pcall('HINCRBY', u.key, 'row', bad)
  if type(row) == 'table' then
    row = bad
    redis.call('HSET', u.key, 'row', row)
  end
  local all_failed, all = 0, 0
  for _, text in ipairs(redis.call('HMGET', u.key, window_fields())) do
    stamp, failed, calls = string.match(text or '', '^(%d+) (%d+) (%d+)$')
    if stamp and slot - tonumber(stamp) < 20 then
      all_failed, all = all_failed + failed, all + calls
    end
  end
  if u.consecutive > 0 and row >= u.consecutive then
    open_again(u, string.format('%d calls in a row failed', row))
  elseif u.min_calls > 0 and all >= u.min_calls and all_failed >= u.failure_rate * all then
    open_again(u, string.format('%d of %d calls failed', all_failed, all))
  end
end

local function hear(u, epoch, outcome, ids, why, wait)
  local good, bad = 0, 0
  displace(u)
  if u.state == 'closed' and epoch == u.epoch then
    good, bad = outcome == 'success' and #ids or 0, outcome == 'failure' and #ids or 0
    ids = {}
  end
  for _, id in ipairs(ids) do
    local probe = u.state == 'half-open' and redis.pcall('ZREM', u.key .. ':probes', id) == 1
    if probe and outcome == 'success' then
      u.passed = u.passed + 1
      redis.call('HSET', u.key, 'passed', u.passed)
      if u.passed >= u.probes then
        turn(u, 'closed', '', '', 0)
      end
    elseif probe and outcome == 'failure' then
      open_again(u, 'the probe failed')
    elseif probe and outcome ~= 'refused' then
      redis.call('ZADD', prefix .. 'tasks:parked', 'XX', 'LT', now, u.name)
      redis.pcall('ZADD', prefix .. 'tasks:marker', 0, 'work')
    end
  end
  if (good > 0 or bad > 0) and u.probes > 0 then
    tally(u, good, bad)
  end
  if outcome == 'refused' then
    if u.state ~= 'open' and epoch == u.epoch then
      turn(u, 'open', 'refused', why, now + wait)
    end
  elseif wait > 0 then
    tap(u, wait, why)
  end
end
