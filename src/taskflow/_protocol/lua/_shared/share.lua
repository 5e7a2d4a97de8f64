-- share: the part of the claims that the retry lane may have.
-- Needs   prefix, now.  Gives  retry_share(depth, ratio, warning, critical, max_age).
-- ratio up to `warning` waiting retries, falling linearly to 0.10 at
-- `critical`, plus 0.20 x min(1, age of the oldest / max_age); never above
-- ratio: a storm cannot starve new work, and a backlog always drains.
local function retry_share(depth, ratio, warning, critical, max_age)
  if depth <= warning then
    return ratio
  end
  local low = math.min(ratio, 0.10)
  local fall = math.min(1, (depth - warning) / math.max(1, critical - warning))
  local share = ratio - (ratio - low) * fall
  local oldest = redis.call('LINDEX', prefix .. 'tasks:pending:retry', 0)
  local since = oldest and redis.pcall('HGET', prefix .. 'task:' .. oldest, 'since_ms')
  since = type(since) == 'string' and tonumber(since)
  if since and max_age > 0 then
    share = share + 0.20 * math.min(1, math.max(0, now - since) / max_age)
  end
  return math.min(ratio, share)
end
