-- quarantine: dead-letter a task whose record cannot be read.
-- Needs   prefix, now, dead_letter, ending.  Gives  quarantine(id, why).
-- One bad record must not stop a loop that serves all others. The record may
-- be a key of another type, so writing its state is allowed to fail.
local function quarantine(id, why)
  redis.pcall('HSET', prefix .. 'task:' .. id, 'state', 'DLQ', 'finished_ms', now)
  bury(id, { cause = 'corrupt', fingerprint = 'corrupt',
    error = problem('CorruptRecord', why) })
  local found = redis.pcall('HMGET', prefix .. 'task:' .. id, 'key', 'watched')
  if not found.err then
    ended(id, 'DLQ', found[1], found[2])
  end
end
