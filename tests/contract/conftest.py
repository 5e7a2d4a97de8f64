"""These tests need schemathesis, which only the session ``contract`` installs."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("schemathesis") else ["test_*.py"]
