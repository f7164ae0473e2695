"""The pump between a spool and a broker: everything arrives in order of append, and is forgotten then."""

import asyncio
import contextlib

from schemas.ids import new_request_id
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import CLOSED, OPENED, STARTED
from services.runtime.spool.pump import Pump
from services.runtime.spool.store import Spool
from tests.integration.runtime.clients import new_topic, outgoing, read_all, run, until

SPOOL_BYTES_MAX = 1024**2


@contextlib.asynccontextmanager
async def pumping(directory, kafka):
    """A spool with a pump that runs."""
    spool, publisher = Spool(directory, SPOOL_BYTES_MAX), Publisher(kafka)
    pump = Pump(spool, publisher)
    task = asyncio.create_task(pump.run())
    try:
        yield spool, pump
    finally:
        task.cancel()
        await asyncio.wait({task})
        await publisher.close()
        spool.close()


def append_closed(spool, pump, topic, numbers):
    """Append exchanges that opened and closed, one for each two records."""
    for start in numbers:
        exchange = new_request_id(start)
        spool.append(exchange, OPENED, outgoing(topic, 1, start=start))
        spool.append(exchange, CLOSED, outgoing(topic, 1, start=start + 1))
        pump.wake()


async def values(kafka, topic):
    return [int(record.value) for record in await read_all(kafka, topic, 1)]


def test_entries_reach_kafka_in_order_and_are_forgotten(tmp_path, kafka):
    async def test():
        topic = await new_topic(kafka)
        async with pumping(tmp_path, kafka) as (spool, pump):
            append_closed(spool, pump, topic, range(0, 2_000, 2))
            await until(lambda: pump.is_idle)
            assert spool.entries == 0
        assert await values(kafka, topic) == list(range(2_000))

    run(test())


def test_an_open_exchange_is_published_but_kept_until_it_is_closed(tmp_path, kafka):
    async def test():
        topic, exchange = await new_topic(kafka), new_request_id(1)
        async with pumping(tmp_path, kafka) as (spool, pump):
            spool.append(exchange, OPENED, outgoing(topic, 1))
            spool.append(exchange, STARTED, [OutgoingRecord(topic, None, b"99", ())])
            pump.wake()
            await until(lambda: pump.is_idle)
            assert (await values(kafka, topic), spool.entries, spool.unclosed()) == ([0], 0, [exchange])
            spool.append(exchange, CLOSED, outgoing(topic, 1, start=1))
            pump.wake()
            await until(lambda: pump.is_idle)
            assert (await values(kafka, topic), spool.entries, spool.unclosed()) == ([0, 1], 0, [])

    run(test())


def test_while_kafka_is_away_entries_wait_and_then_arrive_in_order(tmp_path, own_broker):
    async def test():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=1_000)
        topic = await new_topic(kafka)
        async with pumping(tmp_path / "spool", kafka) as (spool, pump):
            append_closed(spool, pump, topic, range(0, 100, 2))
            await until(lambda: pump.is_idle)
            own_broker.kill()
            append_closed(spool, pump, topic, range(100, 200, 2))
            append_closed(spool, pump, topic, range(200, 300, 2))
            assert (pump.is_idle, spool.entries) == (False, 200)
            await asyncio.to_thread(own_broker.start)
            await until(lambda: pump.is_idle)
            assert spool.entries == 0
        first_arrivals = list(dict.fromkeys(await values(kafka, topic)))
        assert first_arrivals == list(range(300))

    run(test())


def test_a_spool_whose_kafka_was_never_there_is_published_by_its_next_owner(tmp_path, own_broker):
    async def test():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address)
        topic = await new_topic(kafka)
        own_broker.kill()
        async with pumping(tmp_path / "spool", kafka) as (spool, pump):
            append_closed(spool, pump, topic, range(0, 100, 2))
        await asyncio.to_thread(own_broker.start)
        async with pumping(tmp_path / "spool", kafka) as (spool, pump):
            pump.wake()
            await until(lambda: pump.is_idle)
            assert spool.entries == 0
        assert await values(kafka, topic) == list(range(100))

    run(test())
