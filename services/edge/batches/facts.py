"""Decides what an answer with batches is news of, and writes it as events for the batch tracker."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from schemas import topics
from schemas.batches import (
    BatchCreated,
    BatchDeleted,
    BatchFact,
    BatchItem,
    BatchItems,
    BatchOwner,
    BatchSeen,
)
from schemas.ids import EdgeId
from services.edge import events
from services.edge.batches.objects import BatchObject, DeletedObject
from services.edge.batches.scan import CreateView
from services.edge.events import HEADER_CHARS_MAX, Exchange
from services.runtime.records import OutgoingRecord

# Batches of which it is remembered what was said last: some 10 MB.
REMEMBERED_MAX = 10_000


class Remembered:
    """What this process saw of each batch last, so that what is asked again and again is told once.

    Forgetting costs a fact that says nothing new, or a look at the batch before its results are read.
    """

    def __init__(self, batches_max: int = REMEMBERED_MAX) -> None:
        self._batches_max = batches_max
        self._seen: OrderedDict[str, BatchObject] = OrderedDict()

    def of(self, batch_id: str) -> BatchObject | None:
        """Give what was seen of a batch last."""
        return self._seen.get(batch_id)

    def is_news(self, batch: BatchObject | DeletedObject) -> bool:
        """Say whether the batch has changed since it was seen last, and remember it."""
        before = self._seen.pop(batch.id, None)
        if isinstance(batch, DeletedObject):
            return True
        self._seen[batch.id] = batch
        if len(self._seen) > self._batches_max:
            self._seen.popitem(last=False)
        return before != batch


def created(
    batch: BatchObject, view: CreateView, exchange: Exchange, credential: str, item_chunks: int
) -> BatchCreated:
    """Say that a batch was made, and by whom."""
    return BatchCreated(
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        requests=view.requests if view.is_read else batch.request_counts.processing,
        attribution=exchange.attribution,
        credential=credential,
        request_id=exchange.request_id,
        models=view.models,
        item_chunks=item_chunks,
        anthropic_version=exchange.anthropic_version[:HEADER_CHARS_MAX],
        anthropic_beta=exchange.anthropic_beta[:HEADER_CHARS_MAX],
    )


def items(chunks: Iterable[Sequence[BatchItem]]) -> Iterator[BatchItems]:
    """Say what the items of a batch are booked under, a portion at a time."""
    for chunk, portion in enumerate(chunks):
        yield BatchItems(chunk=chunk, items=tuple(portion))


def seen(batch: BatchObject | DeletedObject, credential: str) -> BatchSeen | BatchDeleted:
    """Say what Anthropic said of a batch."""
    if isinstance(batch, DeletedObject):
        return BatchDeleted()
    return BatchSeen(
        status=batch.processing_status,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        ended_at=batch.ended_at,
        counts=batch.request_counts,
        credential=credential,
    )


def record_of(
    batch_id: str, fact: BatchCreated | BatchItems | BatchSeen | BatchDeleted, edge_id: EdgeId, at: datetime
) -> OutgoingRecord:
    """Write one fact as it is published."""
    event = BatchFact(batch_id=batch_id, at=at, edge_id=edge_id, fact=fact)
    return events.record(topics.BATCH_FACTS, event, at)


def owner(batch: BatchObject, exchange: Exchange, at: datetime) -> BatchOwner:
    """Say whose a batch is."""
    return BatchOwner(
        batch_id=batch.id,
        at=at,
        edge_id=exchange.edge_id,
        created_at=batch.created_at,
        request_id=exchange.request_id,
        virtual_key_id=exchange.attribution.virtual_key_id,
        team_id=exchange.attribution.team_id,
    )


def owner_record(owner: BatchOwner) -> OutgoingRecord:
    """Write it as it is published."""
    return events.record(topics.BATCH_OWNERS, owner, owner.at)
