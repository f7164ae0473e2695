"""Tells the simulation's time, which a test can put forward; never runs backwards by itself."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class SimulatedClock:
    """The system's time and as much as it was put forward, in seconds since 1970."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._ahead_seconds = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self._clock() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        """Put the time forward: what would have happened meanwhile has happened."""
        assert seconds >= 0
        self._ahead_seconds += seconds
