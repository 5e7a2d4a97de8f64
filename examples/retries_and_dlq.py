"""What becomes of a task that fails: retried, dead-lettered, mended, brought back.

Six payments. Four go through, one of them at the second attempt. One names an
account that does not exist, which no retry can cure. Another has an amount that the
task refuses, until a person edits it and brings it back.

Output:
    pay: attempt 1 of ada failed, again in 0.1 s
    pay: attempt 2 of ada went through
    COMPLETED 4, DLQ 2
    1 of kind 'LookupError: no account 'nobody'', cause permanent
    1 of kind 'ValueError: amount must be above 0', cause exhausted
    brought back: 1
    paid 5 to grace
    COMPLETED 5, DLQ 1
"""

import asyncio

from taskflow import Context, RetryPolicy, RetryRule, TaskFlow, Worker, task

ACCOUNTS = {"ada", "grace", "edsger", "barbara"}


@task(
    retry=RetryPolicy(
        max_retries=1,
        wait=[0.1],
        rules=(RetryRule(on=LookupError, dead_letter=True),),
    )
)
async def pay(ctx: Context, to: str, amount: int) -> str:
    if to not in ACCOUNTS:
        message = f"no account {to!r}"
        raise LookupError(message)
    if amount <= 0:
        message = "amount must be above 0"
        raise ValueError(message)
    if to == "ada" and ctx.attempt == 1:
        print(f"pay: attempt {ctx.attempt} of {to} failed, again in 0.1 s")
        message = "the bank did not answer"
        raise TimeoutError(message)
    if ctx.attempt > 1:
        print(f"pay: attempt {ctx.attempt} of {to} went through")
    return f"paid {amount} to {to}"


async def settled(flow: TaskFlow) -> None:
    """Run what waits and what is due soon, until nothing is left to do."""
    worker = Worker(flow)
    while True:
        await worker.arun_until_idle()
        status = await flow.queues.astatus()
        if not (status.scheduled or status.primary or status.retry):
            break
        await asyncio.sleep(0.05)
    print(f"COMPLETED {status.states['COMPLETED']}, DLQ {status.states['DLQ']}")


async def main() -> None:
    async with TaskFlow("embedded://") as flow:
        handles = await flow.aenqueue_many(
            [
                pay.call(to, amount)
                for to, amount in (
                    ("ada", 10),
                    ("edsger", 20),
                    ("barbara", 30),
                    ("grace", 40),
                    ("grace", -5),
                    ("nobody", 50),
                )
            ]
        )
        await settled(flow)

        groups = await flow.dlq.agroups()
        for group in sorted(groups, key=lambda each: each.error_type):
            kind = f"{group.error_type}: {group.error_message}"
            print(f"{group.count} of kind '{kind}', cause {group.cause}")

        refused = handles[4]
        await flow.dlq.aedit(refused.id, amount=5)
        done = await flow.dlq.arequeue(refused.id)
        print("brought back:", done.count)
        await Worker(flow).arun_until_idle()
        print(await refused.aresult(timeout=10))
        await settled(flow)


if __name__ == "__main__":
    asyncio.run(main())
