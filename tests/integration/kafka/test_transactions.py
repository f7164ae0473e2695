"""Transactions: all or nothing for those who read committed records, fenced and timed out otherwise."""

import asyncio
import contextlib

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from tests.integration.kafka.clients import (
    a_consumer,
    a_producer,
    an_admin,
    committed,
    create,
    read,
    read_to_end,
    run,
    take,
    until_true,
)

COMMITTED = {"isolation_level": "read_committed"}


def values(records) -> list[bytes]:
    return [record.value for record in records]


def test_what_commits_is_read_and_what_aborts_is_not(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic, partitions=2)
        async with a_producer(bootstrap, transactional_id=fresh("tx")) as producer:
            async with producer.transaction():
                for number in range(6):
                    await producer.send(topic, b"first %d" % number, partition=number % 2)
            await producer.begin_transaction()
            for number in range(6):
                await producer.send_and_wait(topic, b"aborted %d" % number, partition=number % 2)
            await producer.abort_transaction()
            async with producer.transaction():
                for number in range(4):
                    await producer.send(topic, b"last %d" % number, partition=number % 2)
        kept = [b"first %d" % number for number in range(6)] + [b"last %d" % number for number in range(4)]
        assert sorted(values(await read_to_end(bootstrap, topic, 2, **COMMITTED))) == kept
        assert len(await read_to_end(bootstrap, topic, 2)) == 16

    run(test())


def test_every_end_of_a_transaction_takes_an_offset(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with a_producer(bootstrap, transactional_id=fresh("tx")) as producer:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"0")
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"2")
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait(topic, b"4")
        found = await read_to_end(bootstrap, topic, **COMMITTED)
        assert [(one.offset, one.value) for one in found] == [(0, b"0"), (4, b"4")]
        async with a_consumer(bootstrap, **COMMITTED) as consumer:
            assert await consumer.end_offsets([place]) == {place: 6}

    run(test())


def test_an_open_transaction_holds_back_what_lies_behind_it(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with (
            a_producer(bootstrap) as plain,
            a_producer(bootstrap, transactional_id=fresh("tx")) as producer,
        ):
            await plain.send_and_wait(topic, b"before")
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"open")
            await plain.send_and_wait(topic, b"behind")
            async with (
                a_consumer(bootstrap, **COMMITTED) as reader,
                a_consumer(bootstrap) as hasty,
            ):
                reader.assign([place])
                hasty.assign([place])
                assert values(await take(hasty, 3)) == [b"before", b"open", b"behind"]
                assert values(await take(reader, 1)) == [b"before"]
                assert (reader.last_stable_offset(place), reader.highwater(place)) == (1, 3)
                assert await reader.end_offsets([place]) == {place: 1}
                await producer.commit_transaction()
                assert values(await take(reader, 2)) == [b"open", b"behind"]

    run(test())


def test_offsets_count_when_their_transaction_commits(bootstrap, topic, group, fresh):
    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with (
            a_producer(bootstrap, transactional_id=fresh("tx")) as producer,
            a_consumer(bootstrap, group_id=group) as reader,
        ):
            seen = [await reader.committed(place)]
            for offset, end in ((3, producer.abort_transaction), (5, producer.commit_transaction)):
                await producer.begin_transaction()
                await producer.send(topic, b"v")
                await producer.send_offsets_to_transaction({place: OffsetAndMetadata(offset, "note")}, group)
                await end()
                if offset == 5:
                    await until_true(lambda: _is(bootstrap, group, {0: 5}))
                seen.append(await reader.committed(place))
            assert seen == [None, None, 5]
        async with an_admin(bootstrap) as admin:
            assert await admin.list_consumer_group_offsets(group) == {place: OffsetAndMetadata(5, "note")}

    run(test())


async def _is(bootstrap, group, offsets) -> bool:
    return await committed(bootstrap, group) == offsets


def test_a_successor_fences_its_predecessor_and_aborts_what_it_left_open(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        name = fresh("tx")
        async with a_producer(bootstrap, transactional_id=name) as first:
            await first.begin_transaction()
            await first.send_and_wait(topic, b"left open")
            async with a_producer(bootstrap, transactional_id=name) as second:
                async with second.transaction():
                    await second.send(topic, b"kept")
                with pytest.raises((ProducerFenced, InvalidProducerEpoch)):
                    await first.send_and_wait(topic, b"too late")
        assert values(await read_to_end(bootstrap, topic, **COMMITTED)) == [b"kept"]

    run(test())


def test_a_fenced_producer_cannot_commit(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        name = fresh("tx")
        async with a_producer(bootstrap, transactional_id=name) as first:
            await first.begin_transaction()
            await first.send_and_wait(topic, b"left open")
            async with a_producer(bootstrap, transactional_id=name):
                with pytest.raises((ProducerFenced, InvalidProducerEpoch)):
                    await first.commit_transaction()
        assert await read_to_end(bootstrap, topic, **COMMITTED) == []

    run(test())


def test_a_transaction_that_takes_too_long_is_aborted_and_frees_its_readers(bootstrap, topic, fresh):
    """Apache Kafka looks for such transactions every ten seconds."""

    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with (
            a_producer(bootstrap) as plain,
            a_producer(bootstrap, transactional_id=fresh("tx"), transaction_timeout_ms=500) as slow,
        ):
            await slow.begin_transaction()
            await slow.send_and_wait(topic, b"slow")
            await plain.send_and_wait(topic, b"behind")
            async with a_consumer(bootstrap, **COMMITTED) as reader:
                reader.assign([place])
                async with asyncio.timeout(25):
                    found = await reader.getone()
            assert found.value == b"behind"
            with pytest.raises(KafkaError):
                await slow.send_and_wait(topic, b"too late")
                await slow.commit_transaction()
        assert values(await read_to_end(bootstrap, topic, **COMMITTED)) == [b"behind"]

    run(test())


def test_two_transactions_at_once_end_each_for_itself(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        async with (
            a_producer(bootstrap, transactional_id=fresh("tx")) as one,
            a_producer(bootstrap, transactional_id=fresh("tx")) as two,
        ):
            await one.begin_transaction()
            await two.begin_transaction()
            for number in range(4):
                await one.send_and_wait(topic, b"one %d" % number)
                await two.send_and_wait(topic, b"two %d" % number)
            await one.abort_transaction()
            await two.commit_transaction()
        assert values(await read(bootstrap, topic, 4, **COMMITTED)) == [b"two %d" % n for n in range(4)]

    run(test())


def test_a_transaction_of_a_process_that_died_is_aborted_by_its_successor(bootstrap, topic, fresh):
    async def test():
        await create(bootstrap, topic)
        name = fresh("tx")
        with contextlib.suppress(_Died):
            async with a_producer(bootstrap, transactional_id=name) as producer:
                await producer.begin_transaction()
                await producer.send_and_wait(topic, b"left open")
                # Ends the sender where it stands: neither commit nor abort leaves this process.
                await producer._sender.close()
                await producer.client.close()
                raise _Died
        async with (
            a_producer(bootstrap, transactional_id=name) as successor,
            successor.transaction(),
        ):
            await successor.send(topic, b"kept")
        assert values(await read_to_end(bootstrap, topic, **COMMITTED)) == [b"kept"]

    run(test())


class _Died(Exception):
    pass
