"""Follows one batch to its end: looks at it now and then, books it once it has ended; one step at a time."""

import asyncio
import random
from datetime import UTC, datetime

import structlog
from msgspec.structs import replace

from schemas.batches import BatchState
from services.batch_tracker import policy
from services.batch_tracker.anthropic import Anthropic
from services.batch_tracker.booking import Booker
from services.batch_tracker.config import BatchTrackerConfig
from services.batch_tracker.errors import AccessRefused, NotThere, TryLater
from services.batch_tracker.holdings import Holding
from services.batch_tracker.results import Progress, end_of
from services.batch_tracker.state import DELETED, FOLLOWED, closed, missing, refused, seen
from services.runtime import metrics

log = structlog.get_logger(__name__)


class Following:
    """The task of one open batch; it ends when the batch does."""

    def __init__(
        self,
        batch_id: str,
        holding: Holding,
        anthropic: Anthropic,
        booker: Booker,
        config: BatchTrackerConfig,
    ) -> None:
        self.batch_id = batch_id
        self._holding = holding
        self._anthropic = anthropic
        self._booker = booker
        self._config = config
        self._wake = asyncio.Event()
        self._failures = 0
        self._asked_wait_s = 0.0
        self._not_there = 0
        self._readings = 0

    def wake(self) -> None:
        """Look now: a client has seen the end."""
        self._wake.set()

    async def run(self) -> None:
        """Wait and look in turns until there is nothing more to do."""
        while (state := self._open_state()) is not None:
            await self._slept(self._wait_s(state))
            state = self._open_state()
            if state is not None:
                await self._step(state)

    def _open_state(self) -> BatchState | None:
        state = self._holding.states.get(self.batch_id)
        return state if state is not None and state.phase in FOLLOWED else None

    def _wait_s(self, state: BatchState) -> float:
        now = datetime.now(UTC)
        if self._not_there:
            wait_s = self._config.poll_s_max
        elif state.phase == "booking" and not self._failures:
            return policy.booking_wait_s(state, now, self._config)
        else:
            wait_s = policy.wait_s(state, now, self._failures, self._config)
        return max(policy.jittered(wait_s, random.random()), self._asked_wait_s)

    async def _slept(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _step(self, state: BatchState) -> None:
        result = "answered"
        try:
            if state.phase == "booking":
                if policy.booking_wait_s(state, datetime.now(UTC), self._config):
                    return  # woken before its time
                await self._book(state)
            else:
                await self._look(state)
        except TryLater as exc:
            result = "try_later"
            self._failures += 1
            self._asked_wait_s = exc.wait_s
            log.warning("batch.look_failed", batch_id=state.batch_id, tries=self._failures, error=str(exc))
        except AccessRefused as exc:
            result, error = "refused", str(exc)
            log.error("batch.access_refused", batch_id=state.batch_id, error=error)
            await self._holding.change(self.batch_id, lambda held: refused(held, error))
        except NotThere:
            result = "not_there"
            self._not_there += 1
            if self._not_there >= policy.NOT_THERE_LOOKS_MAX or state.status == DELETED:
                await self._holding.change(self.batch_id, lambda held: missing(held, datetime.now(UTC)))
        else:
            self._failures, self._asked_wait_s, self._not_there = 0, 0.0, 0
        metrics.batch_tracker_looks.labels(result).inc()

    async def _look(self, state: BatchState) -> None:
        found = await self._anthropic.batch(self.batch_id, state.anthropic_version, state.anthropic_beta)
        now = datetime.now(UTC)
        await self._holding.change(
            self.batch_id,
            lambda held: (
                missing(seen(held, found.seen), now) if found.is_archived else seen(held, found.seen)
            ),
        )

    async def _book(self, state: BatchState) -> None:
        try:
            progress = await self._booker.book(state, self._report)
        except NotThere:
            await self._look(state)
            if self._open_state() is None:
                return
            raise
        self._readings += 1
        phase = end_of(state.counts, progress)
        if phase == "mismatch" and self._readings < policy.READINGS_MAX:
            await self._report(progress)
            await self._look(state)
            raise TryLater("the results do not agree with Anthropic's counts")
        error = {
            "mismatch": "the results do not agree with Anthropic's counts",
            "unreadable": f"{progress.malformed} lines of the results are none",
        }.get(phase, "")
        await self._holding.change(
            self.batch_id, lambda held: closed(_reported(held, progress), phase, datetime.now(UTC), error)
        )

    async def _report(self, progress: Progress) -> None:
        await self._holding.change(self.batch_id, lambda held: _reported(held, progress))


def _reported(state: BatchState, progress: Progress) -> BatchState:
    """Write progress down; what was read before, in another order, is not taken back."""
    if progress.lines_read < state.lines_read:
        return state
    return replace(
        state,
        lines_read=progress.lines_read,
        lines_digest=progress.lines_digest,
        booked=progress.booked,
        malformed=progress.malformed,
    )
