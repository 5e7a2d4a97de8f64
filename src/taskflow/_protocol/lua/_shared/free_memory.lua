-- free_memory: let the writes that follow pass on a full server.
-- Needs   prefix.  Gives  make_room().
-- Redis refuses a script's first write when memory is short, unless that
-- write is one that frees memory; a DEL of a key that never exists counts.
-- What drains the queue must pass exactly when the server is full.
local function make_room()
  redis.call('DEL', prefix .. 'tasks:scratch')
end
