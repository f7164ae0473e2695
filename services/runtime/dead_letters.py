"""Turns a record that a stage cannot use into the dead letter that keeps it; nothing of it is lost."""

from datetime import UTC, datetime

from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.topics import DLQ_SUFFIX
from services.runtime.records import DeadRecord, OutgoingRecord

# An error's text is for a person; a parser's message may be as long as what it parsed.
ERROR_CHARS_MAX = 500


def dead_letter(stage: str, dead: DeadRecord) -> OutgoingRecord:
    """Build the record for <topic>.dlq: the original bytes, their place, the stage and the error."""
    source = dead.record
    event = DeadLetter(
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        stage=stage,
        error_class=dead.error_class,
        error=dead.error[:ERROR_CHARS_MAX],
        dead_at=datetime.now(UTC),
        key=source.key,
        value=source.value,
        headers=source.headers,
    )
    return OutgoingRecord(
        source.topic + DLQ_SUFFIX,
        codec.key(event),
        codec.encode(event),
        codec.headers(event, event.dead_at.isoformat()),
    )
