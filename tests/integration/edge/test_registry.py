"""How an edge reads and writes the registry: cold, without Kafka, after half a day, and beside others."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from schemas import codec, topics
from schemas.keys import KeyHash, KeyRecord, Team, VirtualKey
from services.edge.follower import REBUILD_AFTER_S, Follower
from services.edge.registry.key_log import KeyLog
from services.edge.registry.secrets import digest_of
from services.edge.registry.table import Registry
from services.edge.registry.writer import RegistryUnavailable, Taken, Writer, creation
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from tests.integration.edge.registry_kafka import lasting_broker
from tests.integration.edge.registry_stack import MASTER, asked, edge, sent, stack, told, until_ready
from tests.integration.runtime import brokers

TEST_S_MAX = 90.0
COLD_KEYS = 5_000
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def own_broker(tmp_path):
    """A broker of one test's own, to kill and to start again on the same directory and port."""
    broker = lasting_broker(tmp_path / "kafka")
    yield broker.start()
    broker.stop()


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


def test_an_edge_without_kafka_serves_the_keys_it_knows_and_a_new_one_says_that_it_knows_none(
    tmp_path, own_broker
):
    async def scenario():
        async with stack(tmp_path / "a", edges=0) as (_, upstream, _):
            kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=2_000)
            await migrate_topics(kafka)
            async with edge(tmp_path / "b", upstream, kafka) as known:
                await until_ready(known)
                key = (await told(known, "/key/generate"))["key"]
                own_broker.kill()
                assert (await sent(known, key)).status_code == 200
                assert (await sent(known, key + "x")).status_code == 401
                async with edge(tmp_path / "c", upstream, kafka) as fresh:
                    await until_ready(fresh, 503)
                    unknown = await sent(fresh, key)
                    assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "1")
                    assert (await sent(fresh, MASTER)).status_code == 200
                    own_broker.start()
                    await until_ready(fresh)
                    assert (await sent(fresh, key)).status_code == 200

    run(scenario())


def test_a_change_that_kafka_does_not_take_is_refused_and_not_made_later(own_broker):
    async def scenario():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=1_000)
        await migrate_topics(kafka)
        registry = Registry()
        key_log = KeyLog(registry)
        follower = Follower(kafka, key_log, contact_s=0.1)
        task = asyncio.create_task(follower.run())
        await brokers.until(lambda: registry.is_read, TEST_S_MAX)
        publisher = Publisher(kafka)
        writer = Writer(registry, key_log, publisher, "e", write_s_max=1.0)
        (made,) = await writer.write([creation(team_called("made"))])
        assert registry.table.team("made") == made
        own_broker.kill()
        with pytest.raises(RegistryUnavailable):
            await writer.write([creation(team_called("lost"))])
        own_broker.start()
        await asyncio.wait_for(_written(writer, "after"), TEST_S_MAX)
        assert [registry.table.team(each) is not None for each in ("made", "lost", "after")] == [
            True,
            False,
            True,
        ]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await publisher.close()

    run(scenario())


async def _written(writer, name):
    while True:
        try:
            return await writer.write([creation(team_called(name))])
        except RegistryUnavailable:
            continue
        except Taken:
            return None  # by an earlier try, of which nothing was known


def team_called(name):
    return Team(team_id=name, revision=1, created_at=NOW, updated_at=NOW)


def key_record(number):
    key = VirtualKey(
        virtual_key_id=f"vk_{number:024}",
        revision=1,
        created_at=NOW,
        updated_at=NOW,
        key_name="sk-...0000",
        hashes=(KeyHash(sha256=digest_of(f"sk-{number}")),),
        key_alias=f"key-{number}",
    )
    return _outgoing(KeyRecord(change_id=str(number), edge_id="e", at=NOW, record=key))


def _outgoing(event):
    return OutgoingRecord(
        topics.KEYS, codec.key(event), codec.encode(event), codec.headers(event, event.at.isoformat())
    )


async def publish(kafka, records):
    publisher = Publisher(kafka)
    await publisher.publish(records)
    await publisher.close()


def test_an_edge_that_starts_cold_knows_every_key_when_it_says_that_it_is_ready(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=0) as (_, upstream, kafka):
            await publish(kafka, [key_record(number) for number in range(COLD_KEYS)])
            began = time.perf_counter()
            async with edge(tmp_path / "cold", upstream, kafka) as client:
                await until_ready(client)
                print(f"ready with {COLD_KEYS} keys after {time.perf_counter() - began:.2f} s")
                assert (await sent(client, f"sk-{COLD_KEYS - 1}")).status_code == 200
                listed = await asked(client, "/key/list", size=100, page=50)
                assert (listed["total_count"], len(listed["keys"])) == (COLD_KEYS, 100)

    run(scenario())


def test_after_half_a_day_without_kafka_the_table_is_built_from_the_start(tmp_path):
    """Tombstones may be gone by then: what is not in the log any more must not be in the table either."""

    async def scenario():
        async with stack(tmp_path, edges=0) as (_, _, kafka):
            await publish(kafka, [key_record(1)])
            registry = Registry()
            moment = [0.0]
            follower = Follower(kafka, KeyLog(registry), lambda: moment[0], contact_s=0.1)
            task = asyncio.create_task(follower.run())
            await brokers.until(lambda: registry.is_read, TEST_S_MAX)
            before = registry.table
            before.put(team_called("gone"))
            moment[0] = REBUILD_AFTER_S + 1
            await brokers.until(lambda: registry.table is not before, TEST_S_MAX)
            assert (len(registry.table), registry.table.team("gone")) == (1, None)
            assert registry.table.key_of_digest(digest_of("sk-1")) is not None
            await publish(kafka, [OutgoingRecord(topics.KEYS, b"virtual_key:vk_%024d" % 1, None, ())])
            await brokers.until(lambda: len(registry.table) == 0, TEST_S_MAX)
            await publish(kafka, [OutgoingRecord(topics.KEYS, b"team:x", b"{}", ()), key_record(2)])
            await brokers.until(lambda: len(registry.table) == 1, TEST_S_MAX)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(scenario())
