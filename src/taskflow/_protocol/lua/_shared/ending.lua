-- ending: what every task that has ended needs besides its new home.
-- Needs   prefix.  Gives  ended(id, state, key, watched).
-- The idempotency key lives on for its time to live; whoever waits is told.
local function ended(id, state, key, watched)
  if key then
    local ttl, name = string.match(key, '^(%d+) (.*)$')
    if name then
      redis.call('PEXPIRE', prefix .. 'tasks:key:' .. name, ttl)
    end
  end
  if watched then
    redis.call('PUBLISH', prefix .. 'taskflow:done:' .. id, state)
  end
end
