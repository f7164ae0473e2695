"""Decides when so many records are unusable that a person has to look, before everything is set aside."""

from collections import deque

from services.runtime.errors import ServiceStopped

# So many without a usable one between them are no accident of a few.
DEAD_IN_A_ROW_MAX = 1_000
# Of the latest so many records 1 % may be dead; judged once there have been so many.
WINDOW_RECORDS = 10_000


class DeadLimits:
    """What one consumer has seen since it started: a restart is a person's leave to go on."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._in_a_row = 0
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._dead = 0

    def check(self, records: int, dead: int) -> None:
        """Take note of a batch before it is set aside; ServiceStopped where it goes beyond a limit."""
        self._in_a_row = self._in_a_row + dead if dead == records else 0
        if self._in_a_row > DEAD_IN_A_ROW_MAX:
            raise ServiceStopped(
                f"{self._in_a_row} records in a row were unusable for {self._stage}: "
                "is it older than those who publish?"
            )
        self._batches.append((records, dead))
        self._records += records
        self._dead += dead
        while self._records - self._batches[0][0] >= WINDOW_RECORDS:
            gone = self._batches.popleft()
            self._records -= gone[0]
            self._dead -= gone[1]
        # Batches go whole: the window may be longer than WINDOW_RECORDS by one of them, its share with it.
        if self._records >= WINDOW_RECORDS and self._dead > self._records // 100:
            raise ServiceStopped(
                f"{self._dead} of the last {self._records} records were unusable for {self._stage}, more "
                "than 1 %: look at `tollhouse dlq list`; started again it goes on."
            )
