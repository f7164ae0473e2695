"""Reads and writes gateway.price_books.v1: no process prices anything before its book stands there."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import structlog

from schemas import codec
from schemas.price_books import PriceBookPublished
from schemas.topics import PRICE_BOOKS
from services.rating.book.event import event_of, highest_seq, record_of, standing
from services.rating.book.price_book import PriceBook
from services.rating.errors import BooksUnreachable
from services.runtime.backoff import Backoff
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.log_reader import LogUnreadable, TopicMissing, read_partition
from services.runtime.publisher import Publisher, PublishFailed

log = structlog.get_logger(__name__)

# For all books there ever were, some 20 KB each, and for a broker that is slow to answer.
READ_S_MAX = 60.0

Now = Callable[[], datetime]


class Announced(NamedTuple):
    """The event that a book stands by, whether it was published just now, and the highest number there is."""

    event: PriceBookPublished
    is_new: bool
    book_seq_max: int


async def announced(book: PriceBook, kafka: KafkaConfig, now: Now) -> PriceBookPublished:
    """Publish the book where it is not yet, and give the event it stands by; waits for Kafka for ever.

    StartRefused where another book has its number, or the topic is missing.
    """
    backoff = Backoff()
    while True:
        try:
            found = await announced_once(book, kafka, now)
        except BooksUnreachable as exc:
            log.warning("rating.books_unreachable", error=str(exc))
            await backoff.wait()
            continue
        if found.is_new:
            log.info("rating.book_published", price_book=book.label, book_seq=book.book_seq)
        if found.book_seq_max > book.book_seq:
            # Nothing is lost: rows that the later book priced keep its price.
            log.warning("rating.book_is_older", book_seq=book.book_seq, book_seq_max=found.book_seq_max)
        return found.event


async def announced_once(book: PriceBook, kafka: KafkaConfig, now: Now) -> Announced:
    """Do the same once and log nothing; BooksUnreachable where Kafka is away."""
    published = await read_books(kafka)
    found = standing(published, book)
    if found is not None:
        return Announced(found, False, highest_seq(published))
    await _publish(event_of(book, now()), kafka)
    # Another process may have been first with this number: what lies first in the log is the book.
    published = await read_books(kafka)
    found = standing(published, book)
    if found is None:
        raise BooksUnreachable(f"{PRICE_BOOKS} does not give back what it acknowledged")
    return Announced(found, True, highest_seq(published))


async def read_books(kafka: KafkaConfig) -> list[PriceBookPublished]:
    """Read every book there is, in the order of the log; BooksUnreachable where Kafka is away."""
    published: list[PriceBookPublished] = []
    try:
        async with asyncio.timeout(READ_S_MAX):
            async for record in read_partition(kafka, PRICE_BOOKS, 0):
                # Nobody can ever have priced by what is no book; the sink sets it aside and says so.
                with contextlib.suppress(codec.Undecodable):
                    published.append(codec.decode(PriceBookPublished, record.value))
    except TopicMissing as exc:
        raise StartRefused(
            f"Kafka at {kafka.bootstrap_servers} has no {PRICE_BOOKS}: run `tollhouse migrate`."
        ) from exc
    except (LogUnreadable, TimeoutError) as exc:
        name = type(exc.__cause__ or exc).__name__
        raise BooksUnreachable(f"cannot reach Kafka at {kafka.bootstrap_servers}: {name}") from exc
    return published


async def _publish(event: PriceBookPublished, kafka: KafkaConfig) -> None:
    publisher = Publisher(kafka)
    try:
        refused = await publisher.publish([record_of(event)])
    except PublishFailed as exc:
        raise BooksUnreachable(f"the price book was not acknowledged: {exc}") from exc
    finally:
        await publisher.close()
    if refused:
        raise StartRefused(f"Kafka will not take the price book {event.label}: {refused[0].error_class}.")
