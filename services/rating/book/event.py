"""Decides which published price book is the one with a number, and puts books into events; holds no I/O."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from schemas import codec
from schemas.price_books import PriceBookPublished
from schemas.topics import PRICE_BOOKS, topic
from services.rating.book.price_book import PriceBook
from services.rating.errors import BookNumberTaken, BookTooLarge, BookUnreadable
from services.runtime.records import OutgoingRecord

# What a record's key and headers may take of its topic's limit.
ENVELOPE_BYTES_MAX = 4096
_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(PriceBook)


def event_of(book: PriceBook, published_at: datetime) -> PriceBookPublished:
    """Put the whole book into an event; its hash is of what decides a price, not of who vouches for it."""
    # `content` of the book is the same once more, and its hash is beside it.
    whole = _ENCODER.encode(msgspec.structs.replace(book, content=""))
    return PriceBookPublished(
        book_seq=book.book_seq,
        book_hash=book.content_hash,
        label=book.label,
        published_at=published_at,
        content=whole.decode(),
    )


def book_of(content: str) -> PriceBook:
    """Read a book out of an event's content; BookUnreadable where a release of another day wrote it."""
    try:
        return _DECODER.decode(content)
    except codec.UNREADABLE as exc:
        raise BookUnreadable("the price book was written by another release of Tollhouse.") from exc


def record_of(event: PriceBookPublished) -> OutgoingRecord:
    """Make the record of an event; BookTooLarge where no broker would take it."""
    value = codec.encode(event)
    bytes_max = topic(PRICE_BOOKS).max_message_bytes - ENVELOPE_BYTES_MAX
    if len(value) > bytes_max:
        raise BookTooLarge(
            f"the price book {event.label} takes {len(value)} bytes, at most {bytes_max} can be."
        )
    published_at: str = msgspec.to_builtins(event.published_at)
    return OutgoingRecord(PRICE_BOOKS, codec.key(event), value, codec.headers(event, published_at))


def standing(published: Sequence[PriceBookPublished], book: PriceBook) -> PriceBookPublished | None:
    """Find this book among the published, which are in the order of the log.

    BookNumberTaken where its number is another's.
    """
    for event in published:
        if event.book_seq != book.book_seq:
            continue
        if event.book_hash != book.content_hash:
            raise BookNumberTaken(
                f"book_seq {book.book_seq} is that of the price book {event.label}, published at "
                f"{event.published_at:%Y-%m-%d %H:%M} UTC, and {book.label} says something else: raise the "
                "book_seq of the book, or the edition of the overrides, with every change."
            )
        return event
    return None


def highest_seq(published: Sequence[PriceBookPublished]) -> int:
    """Give the number of the latest edition that was ever published, 0 where there is none."""
    return max((event.book_seq for event in published), default=0)
