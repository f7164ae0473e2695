"""Writes and follows gateway.batch_owners.v1; lets a caller at a batch as soon as it is known to be its own.

Whose a batch is stands on the topic before its creator has its id. It can be asked for at another edge before
that has read it: so a caller waits a moment before it is told that there is no such batch. What is another's
takes as long as what is not there.
"""

import asyncio
from collections.abc import Collection

import structlog

from schemas import codec
from schemas.batches import BatchOwner
from schemas.topics import BATCH_OWNERS
from services.edge.batches.owners import Holder, Owners, holder_of
from services.edge.follower import Followed
from services.edge.refusals import BATCH_NOT_FOUND, OWNERS_UNREAD, Refusal
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord

log = structlog.get_logger(__name__)

# From one edge through Kafka to another takes some 20 ms.
OWNER_S_MAX = 1.0
# For Kafka to take the record of an owner; the creator of the batch waits for it.
TOLD_S_MAX = 2.0


class Ownership(Followed):
    """Whose batches there are, for all exchanges of an edge."""

    def __init__(
        self, publisher: Publisher | None = None, owner_s_max: float = OWNER_S_MAX, *, is_read: bool = False
    ) -> None:
        super().__init__(BATCH_OWNERS)
        self._publisher = publisher
        self._owner_s_max = owner_s_max
        self.owners = Owners()
        self._is_read = is_read
        self._news = asyncio.Event()

    @property
    def is_read(self) -> bool:
        """Whether it is known whose the batches are."""
        return self._is_read

    def begin_anew(self) -> None:
        """Go on with what is known: nothing changes hands, and no record is ever taken back."""

    def take(self, key: str, value: bytes | None) -> None:
        """Take in whose a batch is."""
        if value is None:
            return
        owner = codec.decode(BatchOwner, value)
        self.owners.put(owner.batch_id, holder_of(owner), owner.created_at)

    def come_to_end(self) -> int:
        """Let count what was read, and have everybody who waits look again."""
        self._is_read = True
        news, self._news = self._news, asyncio.Event()
        news.set()
        return len(self.owners)

    async def made_here(self, owner: BatchOwner, record: OutgoingRecord) -> None:
        """Know at once whose a batch is that was made here, and tell the other edges before its creator.

        The record is in the spool as well, which may be far behind, or be left by a process that is killed;
        that it is published twice does no harm.
        """
        self.owners.put(owner.batch_id, holder_of(owner), owner.created_at)
        if self._publisher is None or self.is_away:
            return
        try:
            async with asyncio.timeout(TOLD_S_MAX):
                await self._publisher.publish([record])
        except (PublishFailed, TimeoutError) as exc:
            log.warning("batch_owner.not_told", batch_id=owner.batch_id, error=type(exc).__name__)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._publisher is not None:
            await self._publisher.close()

    async def refusal(self, batch_id: str, holders: Collection[Holder]) -> Refusal | None:
        """Say why a caller may not see a batch; None as soon as it is known to be its own."""
        try:
            async with asyncio.timeout(self._owner_s_max):
                while not self.owners.is_one_of(batch_id, holders):
                    await self._news.wait()
        except TimeoutError:
            return BATCH_NOT_FOUND if self.is_read and not self.is_away else OWNERS_UNREAD
        return None
