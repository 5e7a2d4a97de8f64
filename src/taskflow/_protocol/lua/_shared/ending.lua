-- ending: what every task that has ended needs besides its new home.
-- Needs   prefix.  Gives  ended(id, state, key, watched), holds(name, id).
-- The idempotency key lives on for its time to live; whoever waits is told.

-- Whether a key is the task's still: after its time another may have taken it.
local function holds(name, id)
  local holder = redis.pcall('GET', prefix .. 'tasks:key:' .. name)
  return type(holder) == 'string' and string.match(holder, '^%S+') == id
end

local function ended(id, state, key, watched)
  if key then
    local ttl, name = string.match(key, '^(%d+) (.*)$')
    if name and holds(name, id) then
      redis.pcall('PEXPIRE', prefix .. 'tasks:key:' .. name, ttl)
    end
  end
  if watched then
    redis.call('PUBLISH', prefix .. 'taskflow:done:' .. id, state)
  end
end
