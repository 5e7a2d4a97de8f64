"""These tests need llmock, which only the session ``llmock`` installs."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("llmock") else ["test_*.py"]
