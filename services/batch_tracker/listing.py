"""Looks now and then for batches that nobody announced, and tells of them as facts; adopts none itself."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from schemas.batches import BatchFact
from schemas.ids import EdgeId
from services.batch_tracker.anthropic import Anthropic, FoundBatch
from services.batch_tracker.config import BatchTrackerConfig
from services.batch_tracker.errors import AccessRefused, NotThere, TryLater
from services.batch_tracker.facts import record_of
from services.runtime.publisher import Publisher, PublishFailed

log = structlog.get_logger(__name__)

# Of one listing, at a hundred batches each; what lies beyond them is looked for by hand.
PAGES_MAX = 100
# Batches that are remembered as told already.
TOLD_MAX = 100_000


class Listing:
    """Tells the owner of each batch that it is there: who does not know it adopts it."""

    def __init__(
        self,
        anthropic: Anthropic,
        publisher: Publisher,
        config: BatchTrackerConfig,
        is_first: Callable[[], bool],
    ) -> None:
        self._anthropic = anthropic
        self._publisher = publisher
        self._config = config
        self._is_first = is_first
        self._told: dict[str, None] = {}

    async def run(self) -> None:
        """List until cancelled, while this process is the one that does; never without a credential."""
        if not self._config.list_interval_s or not self._config.upstream.credential:
            return
        while True:
            await asyncio.sleep(self._config.list_interval_s)
            if not self._is_first():
                continue
            try:
                told = await self.tell(datetime.now(UTC))
            except (TryLater, AccessRefused, NotThere, PublishFailed) as exc:
                log.warning("batches.list_failed", error=str(exc))
            else:
                log.info("batches.listed", told=told)

    async def tell(self, now: datetime) -> int:
        """Publish what Anthropic says of batches made lately, and not just now; give their number."""
        newest = now - timedelta(seconds=self._config.adopt_grace_s)
        oldest = now - timedelta(hours=self._config.adopt_hours_max)
        after_id, told = "", 0
        for _ in range(PAGES_MAX):
            page = await self._anthropic.page(after_id)
            found = [
                each
                for each in page.batches
                if oldest <= each.seen.created_at <= newest and each.batch_id not in self._told
            ]
            await self._publish(found, now)
            told += len(found)
            after_id = page.after_id
            if not after_id or any(each.seen.created_at < oldest for each in page.batches):
                return told
        log.warning("batches.list_cut", pages=PAGES_MAX)
        return told

    async def _publish(self, found: list[FoundBatch], now: datetime) -> None:
        await self._publisher.publish(
            [
                record_of(BatchFact(batch_id=each.batch_id, at=now, edge_id=EdgeId(""), fact=each.seen))
                for each in found
            ]
        )
        self._told |= dict.fromkeys(each.batch_id for each in found)
        for batch_id in list(self._told)[: max(0, len(self._told) - TOLD_MAX)]:
            del self._told[batch_id]
