"""Writes facts that no edge saw: what a listing found, and what a person adopts; holds no I/O."""

from datetime import datetime

from schemas import codec, topics
from schemas.batches import BatchFact
from schemas.ids import EdgeId
from services.batch_tracker.anthropic import FoundBatch
from services.batch_tracker.state import adoption
from services.runtime.records import OutgoingRecord


def adoption_of(found: FoundBatch, at: datetime) -> list[BatchFact]:
    """Say that a batch is there and nobody is known to have made it, and what Anthropic says of it."""
    return [
        BatchFact(batch_id=found.batch_id, at=at, edge_id=EdgeId(""), fact=fact)
        for fact in (adoption(found.seen), found.seen)
    ]


def record_of(fact: BatchFact) -> OutgoingRecord:
    """Write the record of a fact."""
    headers = codec.headers(fact, fact.at.isoformat())
    return OutgoingRecord(topics.BATCH_FACTS, codec.key(fact), codec.encode(fact), headers)
