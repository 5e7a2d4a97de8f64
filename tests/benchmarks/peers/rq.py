"""RQ with three retries for each job; a process is forked for each run.

Retries are what brings an abandoned job back: ``StartedJobRegistry.cleanup`` retries
it where some are left, and lets it fail where none are ("Retrying Failed Jobs" in
its documentation). What is made short are the intervals of maintenance, ten minutes,
and of job monitoring, 30 s (``rq worker --help``); a job is abandoned a minute after
the latter, which is fixed.
"""

import contextlib

from redis import Redis
from rq import Queue, Retry
from rq.job import Job

from peers import SHORT, URL, Connected, body

connection = Redis.from_url(URL)
queue = Queue("faults", connection=connection)


def worker(slots: int) -> list[str]:
    """Return the command of one worker process, which has one slot."""
    command = ["rq", "worker", "--url", URL, "--quiet"]
    if SHORT:
        command += ["--maintenance-interval", str(SHORT)]
        command += ["--job-monitoring-interval", str(SHORT // 2)]
    return [*command, "faults"]


class _Producer:
    async def enqueue(self, number: int) -> str:
        return str(queue.enqueue(body.nap, number, retry=Retry(max=3)).id)

    async def result(self, name: str) -> str | None:
        stored: str | None = Job.fetch(name, connection=connection).return_value()
        return stored


@contextlib.asynccontextmanager
async def producer() -> Connected:
    """Connect with the first call."""
    yield _Producer()
