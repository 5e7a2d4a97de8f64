"""These tests need openrouter, which only the session ``openrouter`` installs."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("openrouter") else ["test_*.py"]
