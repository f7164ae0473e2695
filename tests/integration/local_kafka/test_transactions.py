import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from tests.integration.local_kafka.brokers import broker, consumer, create_topic, producer, take


def test_readers_of_committed_records_see_committed_records_only(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            place = TopicPartition("t", 0)
            async with producer(address, transactional_id="tx") as sender:
                async with sender.transaction():
                    await sender.send("t", b"committed 1")
                await sender.begin_transaction()
                await sender.send_and_wait("t", b"aborted")
                await sender.abort_transaction()
                async with sender.transaction():
                    await sender.send("t", b"committed 2")
                await sender.begin_transaction()
                await sender.send_and_wait("t", b"open")
                async with consumer(address, "t", isolation_level="read_committed") as reader:
                    committed = [item.value for item in await take(reader, 2)]
                    stable = (reader.last_stable_offset(place), reader.highwater(place))
                async with consumer(address, "t") as reader:
                    everything = [item.value for item in await take(reader, 4)]
                await sender.commit_transaction()
            async with consumer(address, "t", isolation_level="read_committed") as reader:
                return committed, stable, everything, [item.value for item in await take(reader, 3)]

    committed, stable, everything, at_last = asyncio.run(run())
    assert committed == [b"committed 1", b"committed 2"]
    assert stable == (6, 7)
    assert everything == [b"committed 1", b"aborted", b"committed 2", b"open"]
    assert at_last == [b"committed 1", b"committed 2", b"open"]


def test_positions_count_when_their_transaction_commits(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            place = TopicPartition("t", 0)
            found = []
            async with (
                producer(address, transactional_id="tx") as sender,
                consumer(address, group_id="g", enable_auto_commit=False) as reader,
            ):
                for offset, end in ((3, sender.abort_transaction), (5, sender.commit_transaction)):
                    await sender.begin_transaction()
                    await sender.send("t", b"v")
                    await sender.send_offsets_to_transaction({place: offset}, "g")
                    found.append(await reader.committed(place))
                    await end()
                    found.append(await reader.committed(place))
            return found

    assert asyncio.run(run()) == [None, None, None, 5]


def test_a_second_producer_fences_the_first(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with producer(address, transactional_id="tx") as first:
                await first.begin_transaction()
                await first.send_and_wait("t", b"lost")
                async with producer(address, transactional_id="tx") as second:
                    async with second.transaction():
                        await second.send("t", b"kept")
                    with pytest.raises(ProducerFenced):
                        await first.send_and_wait("t", b"too late")
            async with consumer(address, "t", isolation_level="read_committed") as reader:
                return [item.value for item in await take(reader, 1)]

    assert asyncio.run(run()) == [b"kept"]


def test_a_transaction_that_takes_too_long_frees_the_readers(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with producer(address) as plain:
                async with producer(address, transactional_id="tx", transaction_timeout_ms=300) as sender:
                    await sender.begin_transaction()
                    await sender.send_and_wait("t", b"slow")
                    await plain.send_and_wait("t", b"behind")
                    async with consumer(address, "t", isolation_level="read_committed") as reader:
                        found = [item.value for item in await take(reader, 1)]
                    with pytest.raises(KafkaError):
                        await sender.send_and_wait("t", b"too late")
                return found

    assert asyncio.run(run()) == [b"behind"]
