"""Tasks that ``taskflow demo`` runs beside the summaries: some retry, one dies."""

import asyncio

from taskflow import Context, Registry, RetryPolicy

registry = Registry()
"""Served by the demo's worker, ``--app taskflow_summarize._demo:registry``."""

FAILURES_FIRST = 2


@registry.task(name="demo.flaky", retry=RetryPolicy(max_retries=5, wait=[0.3, 0.6]))
async def flaky(ctx: Context, number: int) -> str:
    """Fail twice, as a service that hangs up does, then succeed."""
    await asyncio.sleep(0.01)
    if ctx.attempt <= FAILURES_FIRST:
        message = f"the service hung up on call {number}"
        raise ConnectionError(message)
    return f"call {number} answered at attempt {ctx.attempt}"


@registry.task(name="demo.steady")
async def steady(number: int) -> int:
    """Take a little time and succeed."""
    await asyncio.sleep(0.02)
    return number


@registry.task(name="demo.doomed", retry=RetryPolicy(max_retries=1, wait=[0.2]))
def doomed(invoice: int) -> None:
    """Fail for good: what a person has to look at."""
    message = f"invoice {invoice} has no customer"
    raise LookupError(message)
