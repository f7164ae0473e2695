"""Cuts work off when the process is asked to end; what the work then leaves undone is its own affair."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


async def until_stopped(work: Awaitable[Result], stopping: asyncio.Event, grace_s: float) -> Result | None:
    """Await the work; None where it was cut off, `grace_s` after `stopping` was set."""
    limit = asyncio.timeout(None)
    try:
        async with limit:
            watch = asyncio.create_task(_limited(limit, stopping, grace_s))
            try:
                return await work
            finally:
                watch.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        return None


async def _limited(limit: asyncio.Timeout, stopping: asyncio.Event, grace_s: float) -> None:
    await stopping.wait()
    limit.reschedule(asyncio.get_running_loop().time() + grace_s)
