"""Keeps the batches of one simulated API: creates, shows, cancels, deletes, and writes their results."""

from array import array
from collections.abc import Iterator
from mmap import mmap
from typing import Literal

import msgspec
from msgspec.structs import replace

from services.local.anthropic.batch import ERRS, EXPIRES, IN_TURN, IS_CANCELED, Batch, MessageBatch, Pace
from services.local.anthropic.batch_request import BatchItem, read_batch, read_params
from services.local.anthropic.books import Books, Served
from services.local.anthropic.clock import Clock
from services.local.anthropic.directives import PLAIN, Directives
from services.local.anthropic.errors import ApiFault, error_body
from services.local.anthropic.message import Message, simulate
from services.local.anthropic.paging import Page, Query, page_of
from services.local.anthropic.prompt import PromptCache
from services.local.anthropic.storage import Storage

BATCHES_MAX = 10_000  # kept at once; an ended batch takes a name, an id and a byte an item of memory
ITEM_NUMBERS = 1_000_000  # numbers set aside for the items of one exchange: more than a batch may have

# A custom_id that begins so scripts how its item ends.
SCRIPTED_FATES = {"errored-": ERRS, "canceled-": IS_CANCELED, "expired-": EXPIRES}


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a create call brings beside its body."""

    number: int
    api_version: str
    directives: Directives


class DeletedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    type: Literal["message_batch_deleted"] = "message_batch_deleted"


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    batch: Batch
    offsets: "array[int]"  # where each item begins on disk, and where the last one ends
    created: NewBatch


class _ResultLine(msgspec.Struct, frozen=True, kw_only=True):
    custom_id: str
    result: "_Succeeded | _Errored | _Canceled | _Expired"


class _Succeeded(msgspec.Struct, frozen=True, kw_only=True, tag="succeeded"):
    message: Message


class _Errored(msgspec.Struct, frozen=True, kw_only=True, tag="errored"):
    error: msgspec.Raw


class _Canceled(msgspec.Struct, frozen=True, kw_only=True, tag="canceled"):
    pass


class _Expired(msgspec.Struct, frozen=True, kw_only=True, tag="expired"):
    pass


_encoder = msgspec.json.Encoder()
_item_decoder = msgspec.json.Decoder(BatchItem)


class Batches:
    """Every batch; their items lie in the storage, and results are written anew each time they are read."""

    def __init__(self, *, seed: int, clock: Clock, storage: Storage, books: Books) -> None:
        self._seed = seed
        self._clock = clock
        self._storage = storage
        self._books = books
        self._kept: dict[str, _Kept] = {}

    def create(self, new: NewBatch, body: bytes | mmap, base_url: str) -> MessageBatch:
        """Take in a new batch."""
        if len(self._kept) >= BATCHES_MAX:
            raise ApiFault(429, f"The simulation keeps at most {BATCHES_MAX} batches; delete some")
        items = read_batch(body)
        fates = bytes(_fate(item, new.api_version) for item in items)
        batch_id = f"msgbatch_01{self._seed:06d}{new.number:016d}"
        # Both halves of an item are written again, with a few bytes of names around them.
        room_bytes = len(body) + 100 * len(items)
        offsets = array("Q", [0])
        with self._storage.path_for(batch_id, room_bytes).open("wb") as stored:
            for item in items:
                stored.write(_encoder.encode(item))
                offsets.append(stored.tell())
        pace = Pace(
            process_seconds=new.directives.batch_seconds, cancel_seconds=new.directives.cancel_seconds
        )
        now = self._clock()
        batch = Batch(batch_id=batch_id, number=new.number, created_at=now, fates=fates, pace=pace)
        self._kept[batch_id] = _Kept(batch=batch, offsets=offsets, created=new)
        return batch.view(now, base_url)

    def list(self, query: Query, base_url: str) -> Page[MessageBatch]:
        """Show one page, the newest batch first."""
        ids, has_more = page_of([*reversed(self._kept)], query, "batch")
        now = self._clock()
        return Page(
            data=tuple(self._kept[batch_id].batch.view(now, base_url) for batch_id in ids),
            has_more=has_more,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
        )

    def show(self, batch_id: str, base_url: str) -> MessageBatch:
        """Show one batch."""
        return self._find(batch_id).batch.view(self._clock(), base_url)

    def cancel(self, batch_id: str, base_url: str) -> MessageBatch:
        """Begin to cancel a batch."""
        batch, now = self._find(batch_id).batch, self._clock()
        if batch.is_ended(now):
            raise ApiFault(400, f"Batch {batch_id} has already ended and cannot be canceled.")
        batch.cancel(now)
        return batch.view(now, base_url)

    def finish(self, batch_id: str, base_url: str) -> MessageBatch:
        """Bring a batch to its end now; the API itself has no such call."""
        batch, now = self._find(batch_id).batch, self._clock()
        batch.finish(now)
        return batch.view(now, base_url)

    def delete(self, batch_id: str) -> DeletedBatch:
        """Forget an ended batch; what it served stays in the books."""
        kept = self._find(batch_id)
        if not kept.batch.is_ended(self._clock()):
            raise ApiFault(400, f"Batch {batch_id} has not ended; cancel it before deleting it.")
        for entry in self._served_by(kept):
            self._books.add(entry)
        del self._kept[batch_id]
        self._storage.delete(batch_id)
        return DeletedBatch(id=batch_id)

    def results(self, batch_id: str) -> Iterator[bytes]:
        """Write the results of an ended batch, a line at a time, the last item first."""
        kept, now = self._find(batch_id), self._clock()
        if not kept.batch.is_ended(now):
            raise ApiFault(400, f"Batch {batch_id} has no results yet: it is still processing.")
        if kept.batch.is_archived(now):
            raise ApiFault(404, f"The results of batch {batch_id} are no longer available.")
        return (_encoder.encode(line) + b"\n" for line in self._lines(kept))

    def served(self) -> Iterator[Served]:
        """Tell what the ended batches that are still kept have served."""
        now = self._clock()
        for kept in list(self._kept.values()):
            if kept.batch.is_ended(now):
                yield from self._served_by(kept)

    def _find(self, batch_id: str) -> _Kept:
        kept = self._kept.get(batch_id)
        if kept is None:
            raise ApiFault(404, f"Batch {batch_id} was not found.")
        return kept

    def _lines(self, kept: _Kept) -> Iterator[_ResultLine]:
        # Every reading begins with an empty prompt cache, so that every reading gives the same usage.
        cache, offsets = PromptCache(), kept.offsets
        with self._storage.path_of(kept.batch.id).open("rb") as stored:
            for index in reversed(range(kept.batch.items)):
                stored.seek(offsets[index])
                item = _item_decoder.decode(stored.read(offsets[index + 1] - offsets[index]))
                yield _ResultLine(custom_id=item.custom_id, result=self._result(kept, index, item, cache))

    def _result(
        self, kept: _Kept, index: int, item: BatchItem, cache: PromptCache
    ) -> _Succeeded | _Errored | _Canceled | _Expired:
        outcome = kept.batch.outcome(index)
        if outcome == "canceled":
            return _Canceled()
        if outcome == "expired":
            return _Expired()
        suffix = f"02{self._seed:06d}{kept.batch.number:010d}{index:06d}"
        if _scripted_fate(item.custom_id) == ERRS:
            return _Errored(error=msgspec.Raw(error_body(ApiFault(500), f"req_{suffix}")))
        directives = replace(kept.created.directives, service_tier="batch")
        number = kept.batch.number * ITEM_NUMBERS + index
        try:
            request, model = read_params(item.params, kept.created.api_version)
            simulated = simulate(request, model, directives, cache, number, f"msg_{suffix}")
        except ApiFault as fault:
            return _Errored(error=msgspec.Raw(error_body(fault, f"req_{suffix}")))
        return _Succeeded(message=simulated.message)

    def _served_by(self, kept: _Kept) -> Iterator[Served]:
        for line in self._lines(kept):
            if isinstance(line.result, _Succeeded):
                message = line.result.message
                yield Served(
                    message_id=message.id,
                    model=message.model,
                    usage=message.usage,
                    stop_reason=message.stop_reason,
                    batch_id=kept.batch.id,
                    custom_id=line.custom_id,
                )


def _fate(item: BatchItem, api_version: str) -> int:
    scripted = _scripted_fate(item.custom_id)
    if scripted is not None:
        return scripted
    try:
        request, model = read_params(item.params, api_version)
        if request.tools or b"cache_control" in bytes(item.params):
            # Only these can still be refused when the item is answered.
            simulate(request, model, PLAIN, PromptCache(), 0, "")
    except ApiFault:
        return ERRS
    return IN_TURN


def _scripted_fate(custom_id: str) -> int | None:
    return next((fate for prefix, fate in SCRIPTED_FATES.items() if custom_id.startswith(prefix)), None)
