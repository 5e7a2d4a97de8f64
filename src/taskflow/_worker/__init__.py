"""Who works: the loops of a worker process, one per file."""
