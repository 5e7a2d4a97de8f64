-- server_info.lua: what the server says of itself.
--
-- Moves    none
-- ARGV[1]  now        ms since epoch; 0 = the server's own clock
-- ARGV[2]  prefix     of every key
-- Touches  nothing
-- Returns  {now, then per section of INFO its text, '' where it may not be
--          told: server, memory, persistence, replication, keyspace}
-- Cost     O(1)
-- Why      A script may be allowed where a client's INFO is not, and the
--          time is read in the same step. CONFIG is no command for scripts;
--          INFO has all that is needed.
-- @include clock

local reply = { now }
for _, section in ipairs({ 'server', 'memory', 'persistence', 'replication', 'keyspace' }) do
  local text = redis.pcall('INFO', section)
  reply[#reply + 1] = type(text) == 'string' and text or ''
end
return reply
