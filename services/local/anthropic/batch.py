"""Decides what has become of a batch and of each of its items by a given moment; holds no clock, no I/O."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

BATCH_LIFE_SECONDS = 24 * 3600  # what is not done by then expires
RESULTS_LIFE_SECONDS = 29 * 24 * 3600  # from creation on; then the batch is archived

Outcome = Literal["succeeded", "errored", "canceled", "expired"]
Status = Literal["in_progress", "canceling", "ended"]

OUTCOMES: tuple[Outcome, ...] = ("succeeded", "errored", "canceled", "expired")

# What is settled about an item when its batch is created, one byte an item.
IN_TURN, ERRS, IS_CANCELED, EXPIRES = range(4)
_SETTLED: dict[int, Outcome] = {ERRS: "errored", IS_CANCELED: "canceled", EXPIRES: "expired"}


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many items are where; until the end all of them are processing."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class MessageBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the API shows it."""

    id: str
    type: Literal["message_batch"] = "message_batch"
    processing_status: Status
    request_counts: RequestCounts
    ended_at: str | None
    created_at: str
    expires_at: str
    archived_at: str | None
    cancel_initiated_at: str | None
    results_url: str | None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long a batch takes: its items are done at an even pace, in their order."""

    process_seconds: float = 0.0
    cancel_seconds: float = 0.0


class Batch:
    """One batch: an item's fate follows from when its turn comes and from what ends the batch before that."""

    def __init__(self, *, batch_id: str, number: int, created_at: float, fates: bytes, pace: Pace) -> None:
        self.id = batch_id
        self.number = number
        self.created_at = created_at
        self.fates = fates
        self._pace = pace
        self._canceled_at: float | None = None
        self._finished_at: float | None = None

    @property
    def items(self) -> int:
        """Count the items."""
        return len(self.fates)

    def cancel(self, now: float) -> None:
        """Stop at this moment: what is done stays done."""
        if self._canceled_at is None:
            self._canceled_at = now

    def finish(self, now: float) -> None:
        """Be done with every item at this moment, or with the canceling where that has begun."""
        if not self.is_ended(now):
            self._finished_at = now

    def is_ended(self, now: float) -> bool:
        """Tell whether it has ended; a batch is never at its end in the answer that creates or cancels it."""
        return self._finished_at is not None or now > self._ends_at()

    def is_archived(self, now: float) -> bool:
        """Tell whether its results are gone."""
        return self.is_ended(now) and now >= self.created_at + RESULTS_LIFE_SECONDS

    def outcome(self, index: int) -> Outcome:
        """Tell how an item of an ended batch ended."""
        settled = _SETTLED.get(self.fates[index])
        if settled is not None:
            return settled
        return "succeeded" if index < self._done_items() else self._undone_outcome()

    def view(self, now: float, base_url: str) -> MessageBatch:
        """Show it as it is at this moment."""
        ended, archived = self.is_ended(now), self.is_archived(now)
        canceling = "in_progress" if self._canceled_at is None else "canceling"
        results_url = f"{base_url}/v1/messages/batches/{self.id}/results"
        return MessageBatch(
            id=self.id,
            processing_status="ended" if ended else canceling,
            request_counts=self._counts() if ended else RequestCounts(processing=self.items),
            ended_at=_timestamp(self._ends_at()) if ended else None,
            created_at=_timestamp(self.created_at),
            expires_at=_timestamp(self.created_at + BATCH_LIFE_SECONDS),
            archived_at=_timestamp(self.created_at + RESULTS_LIFE_SECONDS) if archived else None,
            cancel_initiated_at=None if self._canceled_at is None else _timestamp(self._canceled_at),
            results_url=results_url if ended and not archived else None,
        )

    def _ends_at(self) -> float:
        if self._finished_at is not None:
            return self._finished_at
        if self._canceled_at is not None:
            return self._canceled_at + self._pace.cancel_seconds
        return self.created_at + min(self._pace.process_seconds, BATCH_LIFE_SECONDS)

    def _done_items(self) -> int:
        """Count the items whose turn came before anything ended the batch."""
        if self._canceled_at is not None:
            spent = self._canceled_at - self.created_at
        elif self._finished_at is not None:
            return self.items
        else:
            spent = BATCH_LIFE_SECONDS
        if spent >= self._pace.process_seconds:
            return self.items
        return int(self.items * spent / self._pace.process_seconds)

    def _undone_outcome(self) -> Outcome:
        return "expired" if self._canceled_at is None else "canceled"

    def _counts(self) -> RequestCounts:
        done = self._done_items()
        counts = dict.fromkeys(OUTCOMES, 0)
        for fate, outcome in _SETTLED.items():
            counts[outcome] += self.fates.count(fate)
        counts["succeeded"] += self.fates.count(IN_TURN, 0, done)
        counts[self._undone_outcome()] += self.fates.count(IN_TURN, done)
        return RequestCounts(**counts)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
