"""Watches answers about batches go by, and tells what is in them; whatever it meets, the answer passes."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from schemas.batch_items import OK, BatchOfItems
from schemas.batches import BatchCreated, BatchDeleted, BatchItems, BatchSeen
from services.edge.batches import facts
from services.edge.batches.facts import Remembered
from services.edge.batches.intake import BatchBody
from services.edge.batches.objects import BatchObject, batches_in
from services.edge.batches.own_list import OwnList
from services.edge.batches.ownership import Ownership
from services.edge.batches.results import ResultsReader
from services.edge.batches.upstream import asked
from services.edge.headers import RawHeaders
from services.edge.passage import Head, Passage
from services.edge.results_url import REWRITE_ON_LOOP_BYTES_MAX, Links
from services.edge.tap.codings import CannotDecode
from services.edge.transport import AiohttpTransport
from services.runtime import metrics
from services.runtime.records import OutgoingRecord

log = structlog.get_logger(__name__)

LOOKUP_BYTES_MAX = 64 * 1024
# Facts in one entry of the spool: a page of batches is a few such entries.
FACTS_PER_ENTRY_MAX = 500

Fact = BatchCreated | BatchItems | BatchSeen | BatchDeleted


class BatchAnswer(NamedTuple):
    """What becomes of an answer that holds batch objects: where they lead, and what they are news of.

    `headers_up` ask for it, and `credential` names the one under which they do. `body` is that of a call that
    creates a batch, which with `ownership` is its creator's alone; with `own` the answer lists nobody else's.
    """

    links: Links
    remembered: Remembered
    credential: str
    headers_up: RawHeaders
    body: BatchBody | None = None
    ownership: Ownership | None = None
    own: OwnList | None = None

    async def tell(self, answer: bytes, passage: Passage) -> None:
        """Put into the spool what the answer is news of."""
        if len(answer) <= REWRITE_ON_LOOP_BYTES_MAX:
            found = batches_in(answer)
        else:
            found = await asyncio.to_thread(batches_in, answer)
        news = [each for each in found if self.remembered.is_news(each)]
        # A list may have shown the batch before its creator is answered: that it was made is news even so.
        if self.body is not None and found and isinstance(found[0], BatchObject):
            await self._tell_created(found[0], self.body, passage)
            return
        for at in range(0, len(news), FACTS_PER_ENTRY_MAX):
            part = news[at : at + FACTS_PER_ENTRY_MAX]
            passage.add([_record(each.id, facts.seen(each, self.credential), passage) for each in part])

    async def _tell_created(self, batch: BatchObject, body: BatchBody, passage: Passage) -> None:
        upload = body.upload
        fact = facts.created(batch, upload.view, passage.exchange, self.credential, upload.item_chunks)
        owner = facts.owner(batch, passage.exchange, datetime.now(UTC))
        owned = facts.owner_record(owner)
        records = [_record(batch.id, fact, passage), *([owned] if self.ownership is not None else [])]
        chunks = facts.items(upload.items())
        try:
            # The first portion, which is all of most batches, lies in one entry with the creation: whoever
            # is killed in between leaves both or none.
            while (chunk := await body.run(_next_chunk, chunks)) is not None:
                passage.add([*records, _record(batch.id, chunk, passage)])
                records = []
        except OSError as exc:
            log.error("batch_items.lost", batch_id=batch.id, error=exc.strerror)
            metrics.edge_records_lost.labels("added").inc()
        passage.add(records)
        if self.ownership is not None:
            await self.ownership.made_here(owner, owned)


class ResultsDownload(NamedTuple):
    """Results that pass under the caller's own key: nobody but this edge can meter their items."""

    batch_id: str
    base_path: bytes
    headers: RawHeaders
    remembered: Remembered

    async def meter(self, head: Head, passage: Passage, transport: AiohttpTransport) -> "ItemMeter | None":
        """Begin to meter an answer; None where there is nothing to meter, or no way to."""
        if not head.is_success or passage.exchange.method != "GET":
            return None
        if head.status != OK:
            return _unmetered(self.batch_id, "not_whole")
        batch = self.remembered.of(self.batch_id)
        if (batch is None or batch.ended_at is None) and self.batch_id:
            batch = await self._looked_up(transport)
        if batch is None or batch.ended_at is None:
            return _unmetered(self.batch_id, "batch_unknown")
        items = BatchOfItems(
            batch_id=batch.id,
            created_at=batch.created_at,
            ended_at=batch.ended_at,
            attribution=passage.exchange.attribution,
        )
        try:
            return ItemMeter(ResultsReader(head.content_encoding, items), passage, batch.id)
        except CannotDecode:
            return _unmetered(self.batch_id, "coding")

    async def _looked_up(self, transport: AiohttpTransport) -> BatchObject | None:
        """Ask Anthropic for the batch, with the caller's own credential."""
        target = self.base_path + b"/v1/messages/batches/" + self.batch_id.encode()
        answer = await asked(transport, target, self.headers, LOOKUP_BYTES_MAX)
        found = batches_in(answer)
        return found[0] if found and isinstance(found[0], BatchObject) else None


class ItemMeter:
    """Meters the items of one download; reads beside the event loop, and spools as it goes."""

    def __init__(self, reader: ResultsReader, passage: Passage, batch_id: str) -> None:
        self._reader: ResultsReader | None = reader
        self._passage = passage
        self._batch_id = batch_id

    async def feed(self, chunk: bytes) -> None:
        """Meter what is whole with this chunk."""
        if self._reader is not None:
            await self._add(self._reader.feed(chunk))

    async def end(self) -> None:
        """Meter what is left: the answer was whole."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await self._add(reader.end())

    async def _add(self, groups: Iterator[list[OutgoingRecord]]) -> None:
        try:
            while group := await asyncio.to_thread(next, groups, None):
                self._passage.add(group)
        except CannotDecode:
            self._reader = None
            _unmetered(self._batch_id, "coding")


def _record(batch_id: str, fact: Fact, passage: Passage) -> OutgoingRecord:
    metrics.edge_batch_facts.labels(_NAMES[type(fact)]).inc()
    return facts.record_of(batch_id, fact, passage.exchange.edge_id, datetime.now(UTC))


_NAMES: dict[type[Fact], str] = {
    BatchCreated: "created",
    BatchItems: "items",
    BatchSeen: "seen",
    BatchDeleted: "deleted",
}


def _next_chunk(chunks: Iterator[BatchItems]) -> BatchItems | None:
    return next(chunks, None)


def _unmetered(batch_id: str, reason: str) -> None:
    metrics.edge_batch_downloads_unmetered.labels(reason).inc()
    log.warning("batch_items.not_metered", batch_id=batch_id, reason=reason)
