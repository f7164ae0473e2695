"""What an edge does about its keys while Kafka is away, when it is back, and when the log is another one."""

import asyncio
import contextlib
from datetime import UTC, datetime

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from litestar import Litestar

from schemas import topics
from schemas.keys import Team
from services.edge.admin.routes import admin_router
from services.edge.follower import REBUILD_AFTER_S
from services.edge.registry.rights import grant_of
from services.edge.registry.writer import UNACKNOWLEDGED, RegistryUnavailable, Taken, creation
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from tests.integration.edge.registry_kafka import lasting_broker, wipe
from tests.integration.edge.registry_members import WAIT_S_MAX, member
from tests.integration.edge.registry_stack import AS_MASTER, MASTER, asked, told
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import publish

TEST_S_MAX = 120.0
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Kafka is asked whether it is there often, so that a test need not wait for the next time.
CONTACT_S = 0.1
# A write waits no longer for a broker that is not there.
WRITE_S_MAX = 1.0


@pytest.fixture
def broker(tmp_path):
    """A broker to kill and to start again where it was."""
    started = lasting_broker(tmp_path / "kafka")
    yield started.start()
    started.stop()


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


def config(broker):
    return KafkaConfig(bootstrap_servers=broker.address, request_timeout_ms=1_000)


def team(name):
    return Team(team_id=name, revision=1, created_at=NOW, updated_at=NOW)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


async def made(one, name):
    """Make a team, as soon as that is possible."""
    while True:
        try:
            return await one.writer.write([creation(team(name))])
        except RegistryUnavailable:
            continue
        except Taken:
            return None  # by an earlier try, of which nothing was known


async def is_away(one):
    """Wait until a member has found out that Kafka is not there."""
    await brokers.until(lambda: one.key_log.is_away, WAIT_S_MAX)


async def is_back(one):
    await brokers.until(lambda: not one.key_log.is_away, WAIT_S_MAX)


def test_without_kafka_nothing_can_be_changed_and_everything_be_read_and_then_all_is_as_before(broker):
    async def scenario():
        await migrate_topics(config(broker))
        async with (
            member(config(broker), contact_s=CONTACT_S, write_s_max=WRITE_S_MAX) as one,
            admin_of(one) as client,
        ):
            key = (await told(client, "/key/generate", key_alias="before"))["key"]
            await asyncio.to_thread(broker.kill)
            assert (await told(client, "/key/block", 503, key=key))["error"] == {
                "message": UNACKNOWLEDGED + ".",
                "type": "no_db_connection",
                "param": None,
                "code": "503",
            }
            await is_away(one)
            assert grant_of(key, one.registry, NOW).key.key_alias == "before"
            assert (await asked(client, "/key/aliases"))["aliases"] == ["before"]
            await asyncio.to_thread(broker.start)

            async def is_blocked():
                answer = await client.post("/key/block", headers=AS_MASTER, json={"key": key})
                return answer.status_code == 200

            await brokers.until_true(is_blocked, TEST_S_MAX)
            assert grant_of(key, one.registry, NOW) == "key_blocked"
            assert (await asked(client, "/key/list"))["total_count"] == 1

    run(scenario())


@contextlib.asynccontextmanager
async def admin_of(one):
    """Give a client of a member's admin API."""
    app = Litestar([admin_router(one.registry, one.writer, lambda: MASTER)], logging_config=None)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=TEST_S_MAX) as client:
        yield client


def test_after_a_short_time_without_kafka_the_table_is_gone_on_with_and_after_long_it_is_built_anew(broker):
    """What is planted in the table shows which of the two it is: it is not in the log."""

    async def scenario():
        kafka = config(broker)
        await migrate_topics(kafka)
        clock = Clock()
        async with member(kafka, clock, CONTACT_S) as one:
            await made(one, "before")
            for away_s, planted, left in (
                (REBUILD_AFTER_S - 1, "kept", True),
                (REBUILD_AFTER_S + 1, "lost", False),
            ):
                table = one.table
                table.put(team(planted))
                await asyncio.to_thread(broker.kill)
                await is_away(one)
                clock.now_s += away_s
                assert (one.table is table, one.table.team("before")) == (True, team("before"))
                await asyncio.to_thread(broker.start)
                if not left:
                    await one.until(lambda _, old=table: one.table is not old)
                await made(one, f"after-{planted}")
                assert (one.table is table, one.table.team(planted) is not None) == (left, left)
            assert {each.team_id for each in one.table.standing("team:")} == {
                "before",
                "after-kept",
                "after-lost",
            }

    run(scenario())


def test_a_log_that_begins_anew_on_a_broker_that_lost_everything_is_read_from_its_start(broker):
    async def scenario():
        kafka = config(broker)
        await migrate_topics(kafka)
        async with member(kafka, contact_s=CONTACT_S) as one:
            for name in ("a", "b", "c"):
                await made(one, name)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(wipe, broker)
            await is_away(one)
            await asyncio.to_thread(broker.start)
            # Until there is a topic again nothing changes, as if Kafka were away.
            assert len(one.table) == 3
            await migrate_topics(kafka)
            await one.until(lambda table: len(table) == 0)
            await is_back(one)
            await made(one, "new")
            assert [each.team_id for each in one.table.standing("team:")] == ["new"]

    run(scenario())


def test_a_topic_that_is_deleted_and_made_again_beneath_a_running_edge_is_read_from_its_start(broker):
    async def scenario():
        kafka = config(broker)
        await migrate_topics(kafka)
        async with member(kafka, contact_s=CONTACT_S) as one:
            for name in ("a", "b", "c"):
                await made(one, name)
            await _delete_topic(kafka)
            await is_away(one)
            assert len(one.table) == 3
            await _migrated(kafka)
            await one.until(lambda table: len(table) == 0)
            await publish(kafka, [OutgoingRecord(topics.KEYS, b"team:x", b"{}", ())])
            await made(one, "new")
            assert [each.team_id for each in one.table.standing("team:")] == ["new"]

    run(scenario())


async def _delete_topic(kafka):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topics.KEYS])
    finally:
        await admin.close()


async def _migrated(kafka):
    """Make the topic again: a broker may not be done with the one before."""

    async def is_made():
        return topics.KEYS in await migrate_topics(kafka)

    await brokers.until_true(is_made, WAIT_S_MAX)
