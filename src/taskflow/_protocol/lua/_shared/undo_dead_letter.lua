-- undo_dead_letter: take a task out of the dead letters, its group included.
-- Needs   prefix.  Gives  unbury(id).
local function unbury(id)
  local letter = prefix .. 'dlq:task:' .. id
  local fingerprint = redis.pcall('HGET', letter, 'fingerprint')
  redis.call('DEL', letter)
  redis.call('ZREM', prefix .. 'dlq:tasks', id)
  if type(fingerprint) == 'string' then
    local group = prefix .. 'dlq:group:' .. fingerprint
    redis.pcall('ZREM', group, id)
    if redis.call('EXISTS', group) == 0 then
      redis.call('ZREM', prefix .. 'dlq:groups', fingerprint)
    end
  end
end
