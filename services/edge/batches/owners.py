"""Holds whose the batches are that virtual keys made, and decides who may see one; pure.

A batch is its team's, or the key's own where the key had no team. One that is not known is nobody's.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from schemas.attribution import Attribution
from schemas.batches import BatchOwner
from services.edge.registry.rights import Grant

# Some 250 bytes of memory each; of more the oldest are forgotten, and are nobody's.
OWNERS_MAX = 500_000

Holder = str
"""Whose a batch is: a team, or a key."""


class Span(NamedTuple):
    """When the oldest and the newest batch of somebody's were made."""

    oldest: datetime
    newest: datetime


def holder_of(owner: BatchOwner | Attribution) -> Holder:
    """Say whose a batch is that this key made, for this team if it had one."""
    return f"team:{owner.team_id}" if owner.team_id else f"key:{owner.virtual_key_id}"


def holders_of(grant: Grant) -> tuple[Holder, ...]:
    """Say in whose name a key may see batches: its team's, and its own from before it had one."""
    own = f"key:{grant.key.virtual_key_id}"
    return (own, f"team:{grant.key.team_id}") if grant.key.team_id else (own,)


class Owners:
    """Every owner that is known, in the order in which they came to be."""

    def __init__(self, owners_max: int = OWNERS_MAX) -> None:
        self._owners_max = owners_max
        self._holders: dict[str, Holder] = {}
        self._spans: dict[Holder, Span] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def put(self, batch_id: str, holder: Holder, created_at: datetime) -> None:
        """Take in whose a batch is; the first word holds, as nothing changes hands."""
        if batch_id in self._holders:
            return
        span = self._spans.get(holder)
        # One text for all batches of a holder, and one span.
        self._holders[batch_id] = holder
        self._spans[holder] = (
            Span(min(span.oldest, created_at), max(span.newest, created_at))
            if span
            else Span(created_at, created_at)
        )
        if len(self._holders) > self._owners_max:
            del self._holders[next(iter(self._holders))]

    def is_one_of(self, batch_id: str, holders: Collection[Holder]) -> bool:
        """Say whether the batch is known to be one of theirs."""
        return self._holders.get(batch_id) in holders

    def span(self, holders: Collection[Holder]) -> Span | None:
        """Say between which moments all batches of theirs were made; None where they have made none."""
        spans = [self._spans[each] for each in holders if each in self._spans]
        if not spans:
            return None
        return Span(min(each.oldest for each in spans), max(each.newest for each in spans))
