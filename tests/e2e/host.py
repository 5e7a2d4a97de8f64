"""Tasks of an application whose names, errors and results are not to be trusted."""

import threading

import taskflow

registry = taskflow.Registry()
NO_RETRY = taskflow.RetryPolicy(max_retries=0)

HOSTILE = (
    "<script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">"
    "<a href=\"javascript:document.title='owned'\">here</a> \u202egnp.exe\x1b[2J"
)


class HostileError(Exception):
    """An error whose text tries to be more."""


@registry.cron("30 4 1 1 *", name="new_year", arguments={"text": "a new year"})
@registry.task(name="echo")
def echo(text: str) -> dict[str, str]:
    """Answer with what a stranger sent."""
    return {text: text}


@registry.task(name="add")
def add(x: int, y: int = 0) -> int:
    """Add two numbers."""
    return x + y


@registry.task(name="pay", retry=NO_RETRY)
def pay(invoice: int) -> None:
    """Fail for good, always in the same way."""
    message = f"invoice {invoice} has no address"
    raise ValueError(message)


@registry.task(name="import_row", retry=NO_RETRY)
def import_row(row: int) -> None:
    """Fail for good in another way."""
    message = f"column {row} is missing"
    raise LookupError(message)


@registry.task(name="hostile_error", retry=NO_RETRY)
def hostile_error(text: str) -> None:
    """Fail with a text from a stranger."""
    raise HostileError(text)


@registry.task(name="later", retry=taskflow.RetryPolicy(wait=(3600.0,)))
def later() -> None:
    """Fail now, and be tried again in an hour."""
    message = "the mail server is busy"
    raise ConnectionError(message)


@registry.task(name="slow_report")
def slow_report(ctx: taskflow.Context, seconds: float) -> None:
    """Take its time, and say how far it is."""
    ctx.progress(3, total=8, message="pages")
    threading.Event().wait(seconds)


class RefusedError(Exception):
    """An answer of a service that is not the one that was hoped for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.retry_after = 600.0 if status == 429 else None


@registry.task(
    name="call_api",
    upstream=taskflow.Upstream(
        "example-api", rate_limit=taskflow.RateLimit(100, per=10.0), concurrency=8
    ),
)
def call_api(status: int) -> None:
    """Call a service that answers with a status."""
    if status >= 400:
        raise RefusedError(status)


@registry.task(name="quiet_failure", dead_letter=False, retry=NO_RETRY)
def quiet_failure() -> None:
    """Fail without a dead letter."""
    message = "nobody minds"
    raise RuntimeError(message)
