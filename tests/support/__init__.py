"""What several suites share; import it as ``tests.support.<module>``."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
