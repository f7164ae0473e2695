"""Follows gateway.batch_owners.v1, and lets a caller at a batch as soon as it is known to be its own.

A batch can be asked for at one edge before the owner's record, written at another, is read here: so a caller
waits a moment before it is told that there is none. What is another's takes as long as what is not there.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime

from schemas import codec
from schemas.batches import BatchOwner
from schemas.topics import BATCH_OWNERS
from services.edge.batches.owners import Holder, Owners, holder_of
from services.edge.follower import Followed
from services.edge.refusals import BATCH_NOT_FOUND, OWNERS_UNREAD, Refusal

# From one edge's spool through Kafka to another takes some 20 ms.
OWNER_S_MAX = 1.0


class Ownership(Followed):
    """Whose batches there are, for all exchanges of an edge."""

    def __init__(self, owner_s_max: float = OWNER_S_MAX, *, is_read: bool = False) -> None:
        super().__init__(BATCH_OWNERS)
        self._owner_s_max = owner_s_max
        self.owners = Owners()
        self._anew = self.owners
        self._is_read = is_read
        self._news = asyncio.Event()

    @property
    def is_read(self) -> bool:
        """Whether it is known whose the batches are."""
        return self._is_read

    def begin_anew(self) -> None:
        """Build anew beside what is known."""
        self._anew = Owners()

    def take(self, key: str, value: bytes | None) -> None:
        """Take in whose a batch is."""
        if value is None:
            return
        owner = codec.decode(BatchOwner, value)
        self._anew.put(owner.batch_id, holder_of(owner), owner.created_at)

    def come_to_end(self) -> int:
        """Let count what was read, and have everybody who waits look again."""
        self.owners, self._is_read = self._anew, True
        news, self._news = self._news, asyncio.Event()
        news.set()
        return len(self.owners)

    def made_here(self, batch_id: str, holder: Holder, created_at: datetime) -> None:
        """Know at once whose a batch is that was made at this edge."""
        self._anew.put(batch_id, holder, created_at)
        self.owners.put(batch_id, holder, created_at)

    async def refusal(self, batch_id: str, holders: Collection[Holder]) -> Refusal | None:
        """Say why a caller may not see a batch; None as soon as it is known to be its own."""
        try:
            async with asyncio.timeout(self._owner_s_max):
                while not self.owners.is_one_of(batch_id, holders):
                    await self._news.wait()
        except TimeoutError:
            return BATCH_NOT_FOUND if self.is_read and not self.is_away else OWNERS_UNREAD
        return None
