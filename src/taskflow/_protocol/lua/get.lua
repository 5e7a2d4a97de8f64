-- get.lua: read one task whole.
--
-- Moves    none
-- KEYS[1]  task       hash, the record
-- KEYS[2]  letter     hash, the dead letter
-- KEYS[3]  active     zset, task id -> lease end (ms)
-- KEYS[4]  scheduled  zset, task id -> due time (ms)
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- ARGV[3]  id         of the task
-- Touches  nothing else
-- Returns  {record fields, letter fields, lease end or '', due time or ''}
-- Cost     O(fields of one record)
-- Why      Record and homes in one look, so that they agree.
local task, letter, active, scheduled = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id = ARGV[3]

local record, text = redis.pcall('HGETALL', task), redis.pcall('HGETALL', letter)
return {
  record.err and {} or record,
  text.err and {} or text,
  redis.call('ZSCORE', active, id) or '',
  redis.call('ZSCORE', scheduled, id) or '',
}
