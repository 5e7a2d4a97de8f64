-- dead_letter: give a task its place among the dead letters.
-- Needs   prefix, now.  Gives  problem(kind, message) -> an error as JSON,
--         join_group(id, fingerprint, at_ms), and
--         bury(id, letter), where letter has cause, fingerprint, error, and may have
--         traceback, attempts, crashes, worker.
-- The caller has taken the task from its former home and sets the record.
-- Not by the encoder alone: no two servers order the fields of a table alike.
local function problem(kind, message)
  return string.format('{"type":"%s","message":', kind) .. cjson.encode(message) .. '}'
end

local function join_group(id, fingerprint, at_ms)
  local group = prefix .. 'dlq:group:' .. fingerprint
  if type(redis.pcall('ZADD', group, at_ms, id)) == 'table' then
    -- A key of a foreign type must not stop the settling of all others.
    redis.call('DEL', group)
    redis.call('ZADD', group, at_ms, id)
  end
  redis.call('ZADD', prefix .. 'dlq:groups', 'GT', at_ms, fingerprint)
end

local function bury(id, letter)
  local fields = { 'died_ms', now }
  for name, value in pairs(letter) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('DEL', prefix .. 'dlq:task:' .. id)
  redis.call('HSET', prefix .. 'dlq:task:' .. id, unpack(fields))
  redis.call('ZADD', prefix .. 'dlq:tasks', now, id)
  join_group(id, letter.fingerprint, now)
  redis.pcall('XADD', prefix .. 'tasks:events', 'MAXLEN', '~', 1000, '*',
    'event', 'dead_letter', 'id', id, 'cause', letter.cause, 'at_ms', now)
end
