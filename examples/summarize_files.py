"""Summarise the sample texts that ship with the plugin.

    $ python examples/summarize_files.py [FILE...]

Output:

    salt.de.txt: de, extractive, at most 25 words: True
    tides.en.txt: en, extractive, at most 25 words: True
"""

import asyncio
import sys
from importlib.resources import files
from pathlib import Path

from taskflow import Registry, TaskFlow, Worker
from taskflow_summarize.plugin import register

registry = Registry()
register(registry)
summarize_text = registry.get("summarize_text")
WORDS = 25
samples = Path(str(files("taskflow_summarize"))) / "samples"


async def main(paths: list[Path]) -> None:
    async with TaskFlow("memory://", registry=registry) as flow:
        handles = await flow.aenqueue_many(
            [
                summarize_text.call(path.read_text("utf-8"), max_words=WORDS)
                for path in paths
            ]
        )
        await Worker(flow, concurrency=2).arun_until_idle()
        for path, handle in zip(paths, handles, strict=True):
            summary = await handle.aresult(timeout=10)
            facts = (await flow.tasks.aget(handle.id)).annotations
            short = len(summary.split()) <= WORDS
            print(
                f"{path.name}: {facts['language']}, {facts['method']}, "
                f"at most {WORDS} words: {short}"
            )


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]]
    asyncio.run(main(named or [samples / "salt.de.txt", samples / "tides.en.txt"]))
