"""Where tasks are kept: servers, and the runners that send operations."""
