"""Closes the exchanges that a dead process left open in its spool, with the usage seen so far."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from schemas import codec
from schemas.requests import RequestStarted
from schemas.usage import UsageRecorded
from schemas.usage_rules import Reading
from services.edge import events
from services.edge.config import SpoolConfig
from services.edge.events import Ending, Exchange, Place
from services.runtime import metrics
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.spool.adoption import abandoned
from services.runtime.spool.frames import CLOSED, STARTED
from services.runtime.spool.pump import Pump
from services.runtime.spool.segment import SpoolFailed
from services.runtime.spool.store import Entry, Spool, SpoolHeld

log = structlog.get_logger(__name__)

# A spool that belongs to nobody at two looks in a row is adopted: who restarts in place is back before that.
LOOK_S = 30.0


def close_orphans(spool: Spool, now: datetime) -> int:
    """Append a closing entry for each open exchange and give their number.

    Where the disk takes no more of them the others stay open, for whoever has the spool next.
    """
    closed = 0
    try:
        for request_id in spool.unclosed():
            entries = spool.entries_of(request_id)
            place = Place(spool.source_id, spool.appended + 1)
            exchange, reading = _remembered(entries)
            ending = Ending(
                outcome="orphaned",
                finished_at=now,
                http_status=200 if reading.usage_status != "none" else 0,
            )
            spool.append(request_id, CLOSED, events.closing(exchange, reading, ending, place))
            closed += 1
    except SpoolFailed as exc:
        log.error(
            "spool.orphans_left_open", source_id=spool.source_id, left=spool.open_exchanges, error=str(exc)
        )
        metrics.spool_failures.labels("disk").inc()
    return closed


async def emptied(adopted: Spool, kafka: KafkaConfig) -> None:
    """Publish what a dead sibling left, and give its directory back however this ends."""
    publisher = Publisher(kafka)
    try:
        await Pump(adopted, publisher).drain()
        metrics.spool_adoptions.inc()
        log.info("spool.adopted", source_id=adopted.source_id, directory=str(adopted.directory))
    finally:
        await publisher.close()
        adopted.close()


async def adopt_the_dead(config: SpoolConfig, kafka: KafkaConfig, look_s: float = LOOK_S) -> None:
    """Until cancelled, look for siblings that died since this process started, and empty one at a time."""
    root, unreadable, before = Path(config.directory), set[Path](), set[Path]()
    while True:
        await asyncio.sleep(look_s)
        now = await asyncio.to_thread(abandoned, root)
        for directory in sorted((now & before) - unreadable):
            try:
                adopted = await asyncio.to_thread(_taken_over, directory, config.bytes_max)
            except SpoolHeld:
                continue  # another one was faster
            except StartRefused as exc:
                log.error("spool.adoption_failed", directory=str(directory), error=str(exc))
                unreadable.add(directory)
                continue
            await emptied(adopted, kafka)
        before = now


def _taken_over(directory: Path, bytes_max: int) -> Spool:
    spool = Spool(directory, bytes_max)
    orphans = close_orphans(spool, datetime.now(UTC))
    log.info("spool.found_abandoned", directory=str(directory), entries=spool.entries, orphans=orphans)
    return spool


def _remembered(entries: list[Entry]) -> tuple[Exchange, Reading]:
    """Read back what the process knew: the opening entry, and message_start's usage where it came."""
    started = codec.decode(RequestStarted, entries[0].records[0].value)
    exchange = msgspec.convert(started, Exchange, from_attributes=True)
    if entries[-1].stage != STARTED:
        return exchange, Reading()
    usage = codec.decode(UsageRecorded, entries[-1].records[0].value)
    return exchange, msgspec.convert(usage, Reading, from_attributes=True)
