"""Text summarisation as taskflow tasks, and taskflow over HTTP.

`create_router`, `create_dashboard` and `create_app` need the extra ``fastapi``; they
are imported when they are first asked for. Type checkers read ``__init__.pyi`` instead.
"""

import importlib
from typing import Any

_HOMES = {
    "create_app": "taskflow_summarize.app",
    "create_dashboard": "taskflow_summarize.dashboard",
    "create_router": "taskflow_summarize.routers",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("taskflow"):
            raise
        message = f"{name} needs {error.name!r}: pip install 'asynctaskflow[fastapi]'"
        raise ImportError(message) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
