"""Decides when the next call to Anthropic may go, over all batches; holds no connection."""

import asyncio
import time

MINUTE_S = 60.0
# No answer may silence the tracker for longer, whatever it asks for.
HOLD_S_MAX = 3600.0


class Throttle:
    """Spaces calls evenly; those who wait go in the order in which they came."""

    def __init__(self, per_minute_max: int) -> None:
        self._interval_s = MINUTE_S / per_minute_max
        self._next_at = 0.0
        self._turns = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for one's turn."""
        async with self._turns:
            while (left_s := self._next_at - time.monotonic()) > 0:  # noqa: ASYNC110 - a time, not an event
                await asyncio.sleep(left_s)
            self._next_at = time.monotonic() + self._interval_s

    def hold(self, seconds: float) -> None:
        """Let nobody go for a while: Anthropic asked for it."""
        self._next_at = max(self._next_at, time.monotonic() + min(seconds, HOLD_S_MAX))
