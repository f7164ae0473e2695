"""Price books as events: the first in the log with a number is the book, and nobody prices by another."""

import asyncio
import hashlib
from datetime import UTC, datetime

import msgspec
import pytest
import structlog.testing

from schemas import codec
from schemas.price_books import PriceBookPublished
from schemas.rated import RatedUsage
from schemas.topics import PRICE_BOOKS, RATED, USAGE, topic
from services.local.ports import free_ports
from services.rating.book.event import book_of, event_of, record_of
from services.rating.book.log import Announced, announced, announced_once, read_books
from services.rating.book.price_book import PriceBook
from services.rating.config import RatingConfig
from services.rating.errors import BookNumberTaken, BooksUnreachable
from services.rating.main import run_rating
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from tests.integration.runtime.clients import publish, read, run, until_async
from tests.unit.rating.cases import BOOK, usage

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 23, 12, tzinfo=UTC)


def book(seq: int, content: str = "{}") -> PriceBook:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return msgspec.structs.replace(
        BOOK, book_seq=seq, label=f"test-{digest[:12]}", content=content, content_hash=digest
    )


@pytest.fixture
def books(own_broker) -> KafkaConfig:
    """A broker with an empty topic of price books."""
    kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=5_000)
    run(migrate_topics(kafka))
    return kafka


def test_the_first_process_publishes_its_book_and_the_next_ones_find_it(books):
    async def test():
        event = event_of(BOOK, AT)
        assert await announced_once(BOOK, books, lambda: AT) == Announced(event, True, BOOK.book_seq)
        assert await announced_once(BOOK, books, lambda: LATER) == Announced(event, False, BOOK.book_seq)
        assert await read_books(books) == [event]
        assert book_of(event.content) == msgspec.structs.replace(BOOK, content="")

    run(test())


def test_the_record_is_one_that_any_subscriber_can_read(books):
    async def test():
        await announced_once(BOOK, books, lambda: AT)
        (record,) = await read(books, PRICE_BOOKS, 1)
        assert record.key == str(BOOK.book_seq).encode()
        assert codec.decode(PriceBookPublished, record.value) == event_of(BOOK, AT)
        assert dict(record.headers)["ce_time"] == b"2026-11-22T12:00:00Z"

    run(test())


def test_another_book_of_the_same_number_is_refused_in_one_sentence_and_not_published(books):
    async def test():
        await announced_once(book(7, "one"), books, lambda: AT)
        with pytest.raises(BookNumberTaken) as refused:
            await announced_once(book(7, "two"), books, lambda: LATER)
        assert str(refused.value) == (
            "book_seq 7 is that of the price book test-7692c3ad3540, published at 2026-11-22 12:00 UTC, and "
            "test-3fc4ccfe7458 says something else: raise the book_seq of the book, or the edition of the "
            "overrides, with every change."
        )
        assert len(await read_books(books)) == 1

    run(test())


def test_of_two_that_were_published_at_once_the_first_in_the_log_is_the_book(books):
    async def test():
        one, two = book(7, "one"), book(7, "two")
        await publish(books, [record_of(event_of(one, LATER)), record_of(event_of(two, AT))])
        assert await announced_once(one, books, lambda: LATER) == Announced(event_of(one, LATER), False, 7)
        with pytest.raises(BookNumberTaken):
            await announced_once(two, books, lambda: LATER)

    run(test())


def test_of_two_processes_with_different_books_of_one_number_exactly_one_starts(books):
    async def test():
        rivals = [book(7, name) for name in ("one", "two", "three")]
        ends = await asyncio.gather(
            *(announced_once(rival, books, lambda: AT) for rival in rivals), return_exceptions=True
        )
        first = (await read_books(books))[0]
        assert [end.event if isinstance(end, Announced) else type(end) for end in ends] == [
            first if rival.content_hash == first.book_hash else BookNumberTaken for rival in rivals
        ]

    run(test())


def test_a_lower_book_than_the_highest_may_start_and_says_so(books):
    async def test():
        await announced_once(book(8), books, lambda: AT)
        with structlog.testing.capture_logs() as logs:
            await announced(book(7, "older"), books, lambda: AT)
        assert {
            "event": "rating.book_is_older",
            "book_seq": 7,
            "book_seq_max": 8,
            "log_level": "warning",
        } in logs

    run(test())


def test_what_is_no_book_stands_in_nobodys_way(books):
    async def test():
        await publish(books, [OutgoingRecord(PRICE_BOOKS, b"7", b"{", ())])
        assert await announced(book(7), books, lambda: AT) == event_of(book(7), AT)

    run(test())


def test_a_kafka_without_the_topic_is_refused_with_what_to_do(own_broker):
    async def test():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=5_000)
        with pytest.raises(StartRefused, match=rf"has no {PRICE_BOOKS}: run `tollhouse migrate`\.$"):
            await announced(BOOK, kafka, lambda: AT)

    run(test())


def test_a_kafka_that_is_away_is_waited_for(own_broker, books):
    async def test():
        own_broker.kill()
        with pytest.raises(BooksUnreachable):
            await announced_once(BOOK, books, lambda: AT)
        waiting = asyncio.create_task(announced(BOOK, books, lambda: AT))
        await asyncio.to_thread(own_broker.start)
        assert await waiting == event_of(BOOK, AT)

    run(test(), 60)


def test_a_rating_process_publishes_its_book_before_it_rates(books, own_broker):
    async def test():
        fact = usage("claude-opus-5", tokens={"input_tokens": 1000})
        headers = codec.headers(fact, "2026-11-22T12:00:05Z")
        await publish(books, [OutgoingRecord(USAGE, codec.key(fact), codec.encode(fact), headers)])
        stopping = asyncio.Event()
        config = RatingConfig(port=free_ports(1))
        rating = asyncio.create_task(run_rating(config, books, stopping))
        (record,) = await read(books, RATED, 1)
        (published,) = await read_books(books)
        rated = codec.decode(RatedUsage, record.value)
        stopping.set()
        await rating
        assert (rated.book_seq, rated.book_hash) == (published.book_seq, published.book_hash)
        # The usage was there first, so its cost stands since the book does.
        assert rated.booked_at == published.published_at

    run(test(), 60)


def test_a_rating_process_that_waits_for_kafka_can_be_stopped(own_broker, books):
    async def test():
        own_broker.kill()
        stopping = asyncio.Event()
        rating = asyncio.create_task(run_rating(RatingConfig(port=free_ports(1)), books, stopping))
        with structlog.testing.capture_logs() as logs:
            await until_async(lambda: _said(logs, "rating.books_unreachable"))
            stopping.set()
            await rating

    run(test(), 60)


async def _said(logs: list, event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


def test_a_book_beyond_the_topics_limit_is_refused():
    names = {f"model-{number}" * 20: "claude-opus-5" for number in range(10_000)}
    huge = msgspec.structs.replace(BOOK, names=names)
    with pytest.raises(StartRefused, match=r"takes \d+ bytes, at most \d+ can be\.$"):
        record_of(event_of(huge, AT))
    assert topic(PRICE_BOOKS).max_message_bytes > 40 * len(record_of(event_of(BOOK, AT)).value)
