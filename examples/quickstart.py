"""Declare a task, enqueue it, run it, get its result.

Run it: ``python examples/quickstart.py``. A real server comes in the wheel of
``asynctaskflow[embedded]``; there is nothing to install or to start beside it.

Output:
    Hello, Ada!
    COMPLETED
"""

import asyncio

from taskflow import TaskFlow, Worker

flow = TaskFlow("embedded://")


@flow.task
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    handle = await greet.aenqueue("Ada")
    await Worker(flow).arun_until_idle()
    print(await handle.aresult(timeout=10))
    print((await handle.ainfo()).state)
    await flow.aclose()


asyncio.run(main())
