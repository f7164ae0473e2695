"""Reads the lines of a results file into usage events, past those that are booked; holds no I/O."""

import hashlib
from collections.abc import Callable

import msgspec

from schemas.batch_items import BatchOfItems, ItemOutcome, read_line, usage_of_item, usage_of_unreadable
from schemas.batches import BatchCounts, BatchItem, BatchPhase, BatchState, ItemCounts
from schemas.usage import UsageRecorded
from services.batch_tracker.errors import LinesChanged

# How far a digest is kept: enough to tell two files apart.
DIGEST_CHARS = 32


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a results file is read, and what was found so far."""

    lines_read: int = 0
    lines_digest: str = ""
    booked: ItemCounts = ItemCounts()
    malformed: int = 0


NONE_READ = Progress()


def progress_of(state: BatchState) -> Progress:
    """Give how far a batch's results are booked."""
    return Progress(
        lines_read=state.lines_read,
        lines_digest=state.lines_digest,
        booked=state.booked,
        malformed=state.malformed,
    )


class ResultsReader:
    """Takes the lines in their order, from the first.

    The lines that are booked already are counted and nothing else, as long as they are the same lines:
    Anthropic promises no order, so their digest is held against the one that was written down.
    """

    def __init__(
        self, batch: BatchOfItems, item_of: Callable[[str], BatchItem], booked: Progress = NONE_READ
    ) -> None:
        self._batch = batch
        self._item_of = item_of
        self._before = booked
        self._digest = hashlib.sha256()
        self._counts: dict[ItemOutcome, int] = {"succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        self._lines = 0
        self._malformed = 0

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            lines_read=self._lines,
            lines_digest=self._digest.hexdigest()[:DIGEST_CHARS],
            booked=ItemCounts(**self._counts),
            malformed=self._malformed,
        )

    def take(self, line: bytes | None) -> UsageRecorded | None:
        """Read a line, None one that is too long to be read; give its event unless it is booked.

        LinesChanged where the lines booked before were others.
        """
        self._lines += 1
        self._digest.update(b"" if line is None else line)
        result = None if line is None else read_line(line)
        if result is None:
            self._malformed += 1
        else:
            self._counts[result.outcome] += 1
        if self._lines <= self._before.lines_read:
            self._check_booked()
            return None
        if result is None:
            return usage_of_unreadable(self._batch, self._lines)
        return usage_of_item(self._batch, self._lines, result, self._item_of(result.custom_id))

    def end(self) -> Progress:
        """Take note that there are no more lines; LinesChanged where there were more before."""
        if self._lines < self._before.lines_read:
            raise LinesChanged(f"{self._lines} lines, and {self._before.lines_read} before")
        return self.progress

    def _check_booked(self) -> None:
        if self._lines == self._before.lines_read and self.progress.lines_digest != self._before.lines_digest:
            raise LinesChanged(f"the first {self._lines} lines are not those that were booked")


def end_of(counts: BatchCounts, read: Progress) -> BatchPhase:
    """Say how a batch ends whose results are read to their end."""
    if read.malformed:
        return "unreadable"
    told = ItemCounts(
        succeeded=counts.succeeded,
        errored=counts.errored,
        canceled=counts.canceled,
        expired=counts.expired,
    )
    return "booked" if told == read.booked else "mismatch"
