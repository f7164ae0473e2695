"""Brings what was appended to the platter, for many exchanges at once and beside the event loop."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.runtime.spool.store import Spool


class GroupSync:
    """Whoever waits while an fsync runs shares the next one."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._synced = spool.appended
        self._round: asyncio.Task[None] | None = None
        # A thread of its own: an fsync may not wait behind the reading of somebody's long body.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool-sync")

    async def synced(self) -> None:
        """Return once all that was appended before this call is on the platter; OSError where it is not."""
        wanted = self._spool.appended
        while self._synced < wanted:
            if self._round is None:
                self._round = asyncio.create_task(self._sync())
            # A client that goes away ends its own waiting, not that of the others.
            await asyncio.shield(self._round)

    def close(self) -> None:
        """Let the thread go, without waiting for a disk that hangs."""
        self._thread.shutdown(wait=False)

    async def _sync(self) -> None:
        appended = self._spool.appended
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, _sync_all, self._spool.unsynced())
            self._synced = appended
        finally:
            self._round = None


def _sync_all(descriptors: Sequence[int]) -> None:
    try:
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
