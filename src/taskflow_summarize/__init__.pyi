from taskflow_summarize.app import create_app
from taskflow_summarize.dashboard import create_dashboard
from taskflow_summarize.routers import create_router

__all__ = ["create_app", "create_dashboard", "create_router"]
