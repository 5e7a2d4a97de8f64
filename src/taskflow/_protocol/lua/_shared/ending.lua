-- ending: what a task that has ended needs besides its new home.
-- Needs   prefix, idempotency.  Gives  ended(id, state, key, watched).
-- The key of a completed task and of a dead letter lives on for its time to live, so
-- that a repeated call finds the task; one of a failed or cancelled task is free.
local function ended(id, state, key, watched)
  local ttl, _, name = parse_key(key)
  if name and (state == 'FAILED' or state == 'CANCELLED') then
    drop_key(name, id)
  elseif name and holds(name, id) then
    redis.pcall('PEXPIRE', prefix .. 'tasks:key:' .. name, ttl)
  end
  if watched then
    redis.call('PUBLISH', prefix .. 'taskflow:done:' .. id, state)
  end
end
