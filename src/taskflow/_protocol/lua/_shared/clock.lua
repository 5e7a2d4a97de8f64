-- clock: the script's one reading of the time, in ms since the epoch.
-- Needs   ARGV[1], ARGV[2].  Gives  now, prefix.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local prefix = ARGV[2]
