"""What to write here instead of what other task libraries call it."""

TASK_OPTIONS = (
    *("name", "retry", "timeout", "soft_timeout"),
    *("dead_letter", "upstream", "weight"),
)
"""Options of ``@task``."""

CALL_OPTIONS = (
    *("delay", "key", "key_ttl", "expires", "max_retries"),
    *("timeout", "weight", "upstream"),
)
"""Options of ``Task.options``."""

_RETRY = "retry=taskflow.RetryPolicy(max_retries=3)"
_ENQUEUE = "task.enqueue(...), or await task.aenqueue(...)"
_WITH_OPTIONS = "task.options(delay=10).enqueue(...)"
_CANVAS = (
    "task.call(...), which flow.enqueue and flow.enqueue_many take; what follows is "
    "enqueued in the task function"
)

_ATTRIBUTES = {
    "delay": _ENQUEUE,
    "send": _ENQUEUE,
    "kiq": _ENQUEUE,
    "submit": _ENQUEUE,
    "defer": _ENQUEUE,
    "defer_async": _ENQUEUE,
    "enqueue_async": _ENQUEUE,
    "apply_async": _WITH_OPTIONS,
    "send_with_options": _WITH_OPTIONS,
    "schedule": _WITH_OPTIONS,
    "kicker": _WITH_OPTIONS,
    "apply": "task(...), which runs it in place",
    "call_local": "task(...), which runs it in place",
    "fn": "task.function",
    "run": "task(...), which runs it in place",
    "s": _CANVAS,
    "si": _CANVAS,
    "signature": _CANVAS,
    "map": _CANVAS,
    "chunks": _CANVAS,
    "message": _CANVAS,
    "request": "a parameter annotated taskflow.Context",
    "AsyncResult": "flow.handle(task_id)",
}

_OPTIONS = {
    "retries": _RETRY,
    "max_retries": _RETRY,
    "max_tries": _RETRY,
    "attempts": _RETRY,
    "max_attempts": _RETRY,
    "autoretry_for": "retry=taskflow.RetryPolicy(rules=...)",
    "retry_backoff": "retry=taskflow.RetryPolicy(wait=...)",
    "default_retry_delay": "retry=taskflow.RetryPolicy(wait=...)",
    "retry_delay": "retry=taskflow.RetryPolicy(wait=...)",
    "countdown": "delay=, in seconds or as a timedelta",
    "eta": "delay=when - datetime.now(UTC)",
    "run_at": "delay=when - datetime.now(UTC)",
    "time_limit": "timeout=",
    "soft_time_limit": "soft_timeout=",
    "job_timeout": "timeout=",
    "rate_limit": "upstream=taskflow.Upstream(name, rate_limit=taskflow.RateLimit(10, per=60))",
    "bind": "a parameter annotated taskflow.Context",
    "context": "a parameter annotated taskflow.Context",
    "acks_late": "nothing: a task is acknowledged when it has ended, always",
    "reject_on_worker_lost": "nothing: a lost worker's tasks run again, always",
    "ignore_result": "nothing: return None",
    "task_id": "key= (taskflow makes the ids)",
    "job_id": "key= (taskflow makes the ids)",
    "unique": "key=",
    "expire": "expires=",
    "ttl": "expires=",
    "retry_policy": "retry=",
    "crontab": "@taskflow.cron(...) above @taskflow.task",
    "cron": "@taskflow.cron(...) above @taskflow.task",
}


def attribute_hint(task: str, name: str) -> str:
    """Explain a missing attribute of a task, named as another library has it.

    Returns:
        A sentence with the way out; empty if nothing is known of the name.
    """
    instead = _ATTRIBUTES.get(name)
    return f"task {task!r} has no {name!r} here; use {instead}" if instead else ""


def option_hint(name: str, known: tuple[str, ...]) -> str:
    """Explain an option that is unknown here.

    Args:
        name: As it was given.
        known: The options there are.

    Returns:
        A sentence with the way out.
    """
    instead = _OPTIONS.get(name, f"{name}=" if name in CALL_OPTIONS else "")
    if instead == _RETRY and known == CALL_OPTIONS:
        instead = "max_retries="
    option, equals, _ = instead.partition("=")
    if equals and option not in known:
        place = "task.options(...)" if option in CALL_OPTIONS else "@taskflow.task(...)"
        instead += f" in {place}"
    if instead:
        return f"there is no option {name!r} here; use {instead}"
    return f"there is no option {name!r}; there are {', '.join(known)}"
