"""A service that fails is left alone by every worker, and its tasks wait unharmed.

Thirty orders are to be sent to a payment service on this machine. It answers the
first ten, then it fails. Its breaker opens after a few failures; what is left waits
parked, with no attempt used, while tasks that do not need the service go on. When it
is well again, one task tries, and all the others follow.

Output:
    10 orders are through
    the service fails
    payments is open: 3 calls in a row failed
    mail goes on: 5 sent
    the service is well again
    payments is closed
    COMPLETED 35, DLQ 0
"""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from taskflow import (
    CircuitBreaker,
    Registry,
    RetryPolicy,
    TaskFlow,
    TaskState,
    Upstream,
    Worker,
)

registry = Registry()
payments = Upstream(
    "payments",
    breaker=CircuitBreaker(consecutive=3, reset_timeout=0.5),
    concurrency=1,
)


class Payments(BaseHTTPRequestHandler):
    """The service: it answers as many orders as it has room for, then it fails."""

    answered = 0
    room = 10

    def do_POST(self) -> None:
        is_well = Payments.answered < Payments.room
        Payments.answered += is_well
        self.send_response(204 if is_well else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Payments)


@registry.task(name="pay", upstream=payments, retry=RetryPolicy(wait=0.1))
def pay(order: int) -> int:
    url = f"http://127.0.0.1:{server.server_port}/orders/{order}"
    request = urllib.request.Request(url, method="POST")
    try:
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - our own
    except urllib.error.HTTPError as error:
        error.close()
        raise
    return order


@registry.task(name="mail")
async def mail(to: int) -> int:
    return to


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - told by nobody
        await asyncio.sleep(0.02)


async def main() -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with TaskFlow("embedded://", registry=registry) as flow:
        worker = Worker(flow, concurrency=4)
        working = asyncio.create_task(worker.arun())
        await flow.aenqueue_many([pay.call(order) for order in range(30)])

        async def is_open() -> bool:
            known = await flow.upstreams.astatus()
            return any(each.state == "open" for each in known)

        await until(is_open)
        print(f"{Payments.answered} orders are through")
        print("the service fails")
        shut = await flow.upstreams.aget("payments")
        print(f"{shut.name} is {shut.state}: {shut.reason}")
        letters = await flow.aenqueue_many([mail.call(to) for to in range(5)])
        sent = [await each.aresult(timeout=10) for each in letters]
        print(f"mail goes on: {len(sent)} sent")

        Payments.room = 30
        print("the service is well again")

        async def is_done() -> bool:
            done = (await flow.queues.astatus()).states[TaskState.COMPLETED]
            return done == 30 + len(letters)

        await until(is_done)
        print(f"payments is {(await flow.upstreams.aget('payments')).state}")
        states = (await flow.queues.astatus()).states
        print(f"COMPLETED {states[TaskState.COMPLETED]}, DLQ {states[TaskState.DLQ]}")
        worker.stop()
        await working
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    asyncio.run(main())
