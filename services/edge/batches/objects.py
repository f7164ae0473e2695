"""Reads the batch objects in Anthropic's answers; what is no batch says nothing, and nothing is raised."""

from datetime import datetime
from typing import Annotated

import msgspec

from schemas.batches import BatchCounts
from schemas.codec import UNREADABLE
from services.runtime import metrics

# Anthropic's are below 40 characters; a longer one makes no key.
BATCH_ID_CHARS_MAX = 128

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
BatchId = Annotated[str, msgspec.Meta(min_length=1, max_length=BATCH_ID_CHARS_MAX)]


class BatchObject(msgspec.Struct, frozen=True, kw_only=True, tag="message_batch"):
    """A batch as Anthropic shows it."""

    id: BatchId
    processing_status: Annotated[str, msgspec.Meta(max_length=64)]
    created_at: Moment
    expires_at: Moment
    ended_at: Moment | None = None
    request_counts: BatchCounts = BatchCounts()


class DeletedObject(msgspec.Struct, frozen=True, kw_only=True, tag="message_batch_deleted"):
    """Anthropic's word that a batch is gone."""

    id: BatchId


class Page(msgspec.Struct):
    """A page of Anthropic's list of batches, as far as it is read."""

    data: list[msgspec.Raw] | None = None
    has_more: bool = False


_PAGE = msgspec.json.Decoder(Page)
_OBJECT = msgspec.json.Decoder(BatchObject | DeletedObject)


def batches_in(body: bytes) -> list[BatchObject | DeletedObject]:
    """Find the batches of an answer: one, or those of a page."""
    page = page_in(body)
    if page is None:
        return []
    texts = [body] if page.data is None else page.data
    return [found for text in texts if (found := batch_in(text)) is not None]


def page_in(body: bytes) -> Page | None:
    """Read an answer to a list; None for what is no JSON object."""
    try:
        return _PAGE.decode(body)
    except UNREADABLE:
        return None


def batch_in(text: bytes | msgspec.Raw) -> BatchObject | DeletedObject | None:
    """Read one batch; None, and counted, for what is none."""
    try:
        return _OBJECT.decode(text)
    except UNREADABLE:
        metrics.edge_batch_objects_unread.inc()
        return None
