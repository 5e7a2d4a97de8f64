"""Test your tasks: a flow of its own for each test, a clock, and no worker.

Opt in from a ``conftest.py``::

    pytest_plugins = ["taskflow.testing"]

A test that takes the fixture `flow` has an empty server in memory, which is under
every flow of the application too; ``pytest --taskflow-url redis://...`` runs the same
tests on a real server, under a prefix that is emptied afterwards. The fixtures need
pytest, the functions don't.
"""

from importlib.util import find_spec

from taskflow._testing import (
    ManualClock,
    arun_until_idle,
    assert_enqueued,
    run_until_idle,
)

__all__ = ["ManualClock", "arun_until_idle", "assert_enqueued", "run_until_idle"]

if find_spec("pytest") is not None:
    from taskflow._fixtures import (
        flow,
        pytest_addoption,
        taskflow_clock,
        taskflow_url,
    )

    __all__ += ["flow", "pytest_addoption", "taskflow_clock", "taskflow_url"]
