-- indexes: the sorted set of each state that has one.
-- Needs   active, scheduled, completed, failed, cancelled, dlq.
--         Gives  homes, HOMED, which are the states in the order in which we look.
local HOMED = { 'ACTIVE', 'SCHEDULED', 'COMPLETED', 'DLQ', 'FAILED', 'CANCELLED' }
local homes = {
  ACTIVE = active,
  SCHEDULED = scheduled,
  COMPLETED = completed,
  FAILED = failed,
  CANCELLED = cancelled,
  DLQ = dlq,
}
