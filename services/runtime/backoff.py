"""Decides how long to wait before the next try: longer each time, up to a limit, with jitter."""

import asyncio
import random

WAIT_S_MIN = 0.2
WAIT_S_MAX = 10.0


class Backoff:
    """One series of tries; `reset` after a success."""

    def __init__(self, wait_s_min: float = WAIT_S_MIN, wait_s_max: float = WAIT_S_MAX) -> None:
        self._min = wait_s_min
        self._max = wait_s_max
        self._next = wait_s_min

    def reset(self) -> None:
        """Begin anew with the shortest wait."""
        self._next = self._min

    async def wait(self) -> None:
        """Sleep between half the wait and all of it, so that many who failed together part."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))
        self._next = min(self._next * 2, self._max)
