"""Hear what is published, for as long as the worker lives.

What is published while nobody listens is lost. So nothing may depend on it: what is
heard only comes sooner than it would be found. Who cannot wait looks for itself
whenever listening has begun.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from taskflow._codec import from_json
from taskflow._servers.runner import AsyncRunner
from taskflow.errors import ServerError

_logger = logging.getLogger("taskflow.worker")


async def listen_to(
    runner: AsyncRunner,
    channel: str,
    take: Callable[[dict[str, Any]], None],
    look: Callable[[], None] = lambda: None,
) -> None:
    """Give every message of *channel* to *take*, until cancelled.

    Args:
        runner: Listens.
        channel: Its messages are JSON objects.
        take: Takes a message.
        look: Called whenever listening has begun: what was published before is lost.
    """
    while True:
        try:
            async with runner.subscribe(channel) as news:
                begun = 0
                while True:
                    if news.begun > begun:
                        begun = news.begun
                        look()
                    message = await news.next(5.0)
                    if message is not None:
                        _give(message, take)
        except ServerError as error:
            _logger.debug("%s is not heard: %s", channel, error)
            await asyncio.sleep(random.uniform(0.5, 2.0))  # noqa: S311


def _give(message: bytes, take: Callable[[dict[str, Any]], None]) -> None:
    try:
        take(from_json(message))
    except Exception:
        # Anybody may publish; a message is no reason to stop working.
        _logger.exception("a message cannot be read: %r", message)
