-- idempotency: which task holds an idempotency key.
-- Needs   prefix.  Gives  parse_key(stored) -> ttl (ms), digest and name of a record's
--         key; key_holder(name) -> task id or nil; holds(name, id);
--         is_held(name, holder); drop_key(name, id); retake_key(id, stored).
local function parse_key(stored)
  return string.match(stored or '', '^(%d+) (%S+) (.*)$')
end

local function key_holder(name)
  local value = redis.pcall('GET', prefix .. 'tasks:key:' .. name)
  return type(value) == 'string' and string.match(value, '^%S+') or nil
end

local function holds(name, id)
  return key_holder(name) == id
end

-- A key that expires outlives the record of its task, which may be kept for less
-- time. One that does not belongs to a waiting or running task; if that task's
-- record is lost, nothing else would ever free the key.
local function is_held(name, holder)
  return redis.call('EXISTS', prefix .. 'task:' .. holder) == 1
    or redis.call('PTTL', prefix .. 'tasks:key:' .. name) > 0
end

local function drop_key(name, id)
  if holds(name, id) then
    redis.call('DEL', prefix .. 'tasks:key:' .. name)
  end
end

-- Give a task that runs again its key back. Returns the id of another task that has
-- taken the key meanwhile, and the key; then nothing is changed.
local function retake_key(id, stored)
  local _, digest, name = parse_key(stored)
  local holder = name and key_holder(name)
  if holder and holder ~= id and is_held(name, holder) then
    return holder, name
  elseif name then
    redis.call('SET', prefix .. 'tasks:key:' .. name, id .. ' ' .. digest)
  end
end
