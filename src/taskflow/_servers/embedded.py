"""Placeholder."""
from taskflow._servers.redis import RedisServer
class EmbeddedServer(RedisServer):
    pass
