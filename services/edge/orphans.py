"""Closes the exchanges that a dead process left open in its spool, with the usage seen so far."""

from datetime import datetime

import msgspec

from schemas import codec
from schemas.requests import RequestStarted
from schemas.usage import UsageRecorded
from services.edge import events
from services.edge.events import Ending, Exchange, Place
from services.edge.tap.reading import Reading
from services.runtime.spool.store import CLOSED, STARTED, Entry, Spool


def close_orphans(spool: Spool, now: datetime) -> int:
    """Append a closing entry for each open exchange and give their number."""
    orphans = spool.unclosed()
    for request_id in orphans:
        entries = spool.entries_of(request_id)
        place = Place(spool.source_id, spool.appended + 1)
        exchange, reading = _remembered(entries)
        ending = Ending(
            outcome="orphaned",
            finished_at=now,
            http_status=200 if reading.usage_status != "none" else 0,
        )
        spool.append(request_id, CLOSED, events.closing(exchange, reading, ending, place))
    return len(orphans)


def _remembered(entries: list[Entry]) -> tuple[Exchange, Reading]:
    """Read back what the process knew: the opening entry, and message_start's usage where it came."""
    started = codec.decode(RequestStarted, entries[0].records[0].value)
    exchange = msgspec.convert(started, Exchange, from_attributes=True)
    if entries[-1].stage != STARTED:
        return exchange, Reading()
    usage = codec.decode(UsageRecorded, entries[-1].records[0].value)
    return exchange, msgspec.convert(usage, Reading, from_attributes=True)
