"""Topics and their settings: created, described, altered, deleted, and refused with Kafka's codes."""

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidPartitionsError, OffsetOutOfRangeError

from tests.integration.kafka.clients import (
    a_consumer,
    a_producer,
    an_admin,
    committed,
    create,
    local_differs,
    read_to_end,
    run,
    send_numbers,
    settings_of,
    until_true,
)

NO_SUCH_TOPIC = 3


def test_a_topic_is_created_once(bootstrap, topic):
    async def test():
        async with an_admin(bootstrap) as admin:
            codes = []
            for _ in range(2):
                reply = await admin.create_topics([NewTopic(topic, 1, 1)])
                codes.append(reply.topic_errors[0][1])
            assert codes == [0, 36]

    run(test())


def test_what_cannot_be_created_is_refused_for_its_own_reason_and_nothing_is_left(bootstrap, topic):
    wrong = {
        17: [NewTopic(f"{topic} with/odd*characters", 1, 1), NewTopic("", 1, 1), NewTopic("x" * 250, 1, 1)],
        37: [NewTopic(f"{topic}-none", 0, 1), NewTopic(f"{topic}-negative", -2, 1)],
        38: [NewTopic(f"{topic}-replicas", 1, 99)],
        40: [
            NewTopic(f"{topic}-name", 1, 1, topic_configs={"bogus": "1"}),
            NewTopic(f"{topic}-value", 1, 1, topic_configs={"retention.ms": "soon"}),
            NewTopic(f"{topic}-range", 1, 1, topic_configs={"max.message.bytes": "-5"}),
            NewTopic(f"{topic}-word", 1, 1, topic_configs={"cleanup.policy": "keep"}),
            NewTopic(f"{topic}-codec", 1, 1, topic_configs={"compression.type": "rar"}),
            NewTopic(f"{topic}-large", 1, 1, topic_configs={"segment.bytes": "2147483648"}),
            NewTopic(
                f"{topic}-lags",
                1,
                1,
                topic_configs={"max.compaction.lag.ms": "5", "min.compaction.lag.ms": "6"},
            ),
        ],
    }

    async def test():
        async with an_admin(bootstrap) as admin:
            reply = await admin.create_topics([one for several in wrong.values() for one in several])
            found = {name: code for name, code, _ in reply.topic_errors}
            assert found == {one.name: code for code, several in wrong.items() for one in several}
            assert not {name for name in await admin.list_topics() if name.startswith(topic)}

    run(test())


def test_a_creation_that_only_validates_creates_nothing(bootstrap, topic):
    async def test():
        async with an_admin(bootstrap) as admin:
            reply = await admin.create_topics([NewTopic(topic, 1, 1)], validate_only=True)
            assert [error[1] for error in reply.topic_errors] == [0]
            assert topic not in await admin.list_topics()

    run(test())


def test_a_topic_is_described_with_its_partitions_and_an_unknown_one_as_unknown(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=3)
        async with an_admin(bootstrap) as admin:
            known, unknown = await admin.describe_topics([topic, f"{topic}-unknown"])
            cluster = await admin.describe_cluster()
        nodes = {broker["node_id"] for broker in cluster["brokers"]}
        parts = sorted(known["partitions"], key=lambda part: part["partition"])
        assert (known["error_code"], known["topic"], known["is_internal"]) == (0, topic, False)
        assert [(part["error_code"], part["partition"]) for part in parts] == [(0, 0), (0, 1), (0, 2)]
        assert all(part["replicas"] == part["isr"] == [part["leader"]] for part in parts)
        assert {part["leader"] for part in parts} <= nodes
        assert cluster["controller_id"] in nodes
        assert (unknown["error_code"], unknown["topic"], unknown["partitions"]) == (
            NO_SUCH_TOPIC,
            f"{topic}-unknown",
            [],
        )

    run(test())


def test_settings_are_described_as_given_beside_the_defaults(bootstrap, topic):
    given = {
        "cleanup.policy": "compact",
        "compression.type": "zstd",
        "max.compaction.lag.ms": "86400000",
        "max.message.bytes": "2097152",
        "message.timestamp.after.max.ms": "60000",
        "message.timestamp.before.max.ms": "120000",
        "message.timestamp.type": "LogAppendTime",
        "min.compaction.lag.ms": "60000",
        "min.insync.replicas": "1",
        "retention.ms": "600000",
        "segment.bytes": "10485760",
    }
    defaults = {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "delete.retention.ms": "86400000",
        "max.compaction.lag.ms": "9223372036854775807",
        "max.message.bytes": "1048588",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "message.timestamp.type": "CreateTime",
        "min.compaction.lag.ms": "0",
        "retention.bytes": "-1",
        "retention.ms": "604800000",
    }

    async def test():
        await create(bootstrap, topic, **given)
        await create(bootstrap, f"{topic}-plain")
        found = await settings_of(bootstrap, topic)
        plain = await settings_of(bootstrap, f"{topic}-plain")
        assert {name: found.get(name) for name in given} == given
        assert {name: plain.get(name) for name in defaults} == defaults

    run(test())


def test_a_topic_without_a_policy_is_neither_deleted_nor_compacted(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, cleanup_policy="")
        assert (await settings_of(bootstrap, topic))["cleanup.policy"] == ""

    run(test())


@local_differs("it refuses what it would not heed")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compression.gzip.level", "6"),
        ("compression.lz4.level", "9"),
        ("compression.zstd.level", "3"),
        ("file.delete.delay.ms", "1000"),
        ("flush.messages", "1"),
        ("flush.ms", "1000"),
        ("follower.replication.throttled.replicas", "*"),
        ("index.interval.bytes", "4096"),
        ("leader.replication.throttled.replicas", "*"),
        ("local.retention.bytes", "-2"),
        ("local.retention.ms", "-2"),
        ("preallocate", "true"),
        ("remote.storage.enable", "false"),
        ("segment.index.bytes", "1048576"),
        ("segment.jitter.ms", "1000"),
        ("unclean.leader.election.enable", "false"),
    ],
)
def test_a_setting_for_many_brokers_or_for_the_disk_is_taken(bootstrap, topic, name, value):
    async def test():
        await create(bootstrap, topic, **{name: value})

    run(test())


@local_differs("a laptop is better served by 64 MiB")
def test_a_segment_is_a_gibibyte_unless_told_otherwise(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        assert (await settings_of(bootstrap, topic))["segment.bytes"] == "1073741824"

    run(test())


def test_a_description_may_ask_for_some_settings_by_name(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, retention_ms=5_000)
        asked = ConfigResource(
            ConfigResourceType.TOPIC, topic, dict.fromkeys(("retention.ms", "cleanup.policy"))
        )
        async with an_admin(bootstrap) as admin:
            (reply,) = await admin.describe_configs([asked])
        (resource,) = reply.resources
        # Name, value, read only, source (1: set on this topic, 5: default), sensitive.
        assert sorted(tuple(entry[:5]) for entry in resource[4]) == [
            ("cleanup.policy", "delete", False, 5, False),
            ("retention.ms", "5000", False, 1, False),
        ]

    run(test())


def test_settings_of_an_unknown_topic_are_refused(bootstrap, topic):
    async def test():
        async with an_admin(bootstrap) as admin:
            (described,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            (altered,) = await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1"})]
            )
        assert [(reply.resources[0][0], reply.resources[0][3]) for reply in (described, altered)] == [
            (NO_SUCH_TOPIC, topic)
        ] * 2

    run(test())


def test_altering_one_setting_resets_those_not_named(bootstrap, topic):
    """Why a migration must name every setting of a topic when it alters one."""

    async def test():
        await create(bootstrap, topic, cleanup_policy="compact", min_compaction_lag_ms=3_600_000)
        async with an_admin(bootstrap) as admin:
            (reply,) = await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1234"})]
            )
        assert reply.resources[0][0] == 0
        names = ("cleanup.policy", "min.compaction.lag.ms", "retention.ms")

        async def is_altered() -> bool:
            settings = await settings_of(bootstrap, topic)
            return [settings[name] for name in names] == ["delete", "0", "1234"]

        await until_true(is_altered)

    run(test())


def test_an_alteration_that_is_wrong_changes_nothing(bootstrap, topic):
    wrong = ({"bogus": "1"}, {"retention.ms": "soon"}, {"retention.ms": "7", "cleanup.policy": "keep"})

    async def test():
        await create(bootstrap, topic, retention_ms=5_000)
        async with an_admin(bootstrap) as admin:
            replies = [
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
                for settings in wrong
            ]
        assert [reply.resources[0][0] for (reply,) in replies] == [40, 40, 40]
        assert replies[0][0].resources[0][1] == "Unknown topic config name: bogus"
        assert (await settings_of(bootstrap, topic))["retention.ms"] == "5000"

    run(test())


def test_partitions_may_be_added_but_never_taken(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=2)
        async with an_admin(bootstrap) as admin:
            await admin.create_partitions({topic: NewPartitions(4)})

            async def has_four() -> bool:
                (found,) = await admin.describe_topics([topic])
                return len(found["partitions"]) == 4

            await until_true(has_four)
            for count in (4, 1, 0):
                with pytest.raises(InvalidPartitionsError):
                    await admin.create_partitions({topic: NewPartitions(count)})

    run(test())


def test_records_are_deleted_up_to_an_offset(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 10)
        place = TopicPartition(topic, 0)
        async with an_admin(bootstrap) as admin, a_consumer(bootstrap) as consumer:
            assert await admin.delete_records({place: RecordsToDelete(before_offset=4)}) == {place: 4}
            assert await consumer.beginning_offsets([place]) == {place: 4}
            values = [record.value for record in await read_to_end(bootstrap, topic)]
            assert values == [b"4", b"5", b"6", b"7", b"8", b"9"]
            # Everything, as -1 says; then offsets go on where they were.
            assert await admin.delete_records({place: RecordsToDelete(before_offset=-1)}) == {place: 10}
            assert await consumer.end_offsets([place]) == {place: 10}
        async with a_producer(bootstrap) as producer:
            assert (await producer.send_and_wait(topic, b"next")).offset == 10

    run(test())


def test_records_beyond_the_end_cannot_be_deleted(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 3)
        async with an_admin(bootstrap) as admin:
            with pytest.raises(OffsetOutOfRangeError):
                await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})

    run(test())


def test_a_deleted_topic_is_gone_and_may_be_created_anew_empty(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 5)
        async with an_admin(bootstrap) as admin:
            reply = await admin.delete_topics([topic, f"{topic}-unknown"])
            codes = {entry[0]: entry[1] for entry in reply.topic_error_codes}
            assert codes == {topic: 0, f"{topic}-unknown": NO_SUCH_TOPIC}
            await until_true(lambda: _is_absent(admin, topic))
        await create(bootstrap, topic)
        assert await read_to_end(bootstrap, topic) == []

    run(test())


def test_positions_go_with_the_topic_they_were_in(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap, group_id=group) as consumer, an_admin(bootstrap) as admin:
            consumer.assign([place])
            await consumer.commit({place: 1})
            assert await committed(bootstrap, group) == {0: 1}
            await admin.delete_topics([topic])

            async def is_forgotten() -> bool:
                return not await committed(bootstrap, group)

            await until_true(is_forgotten)

    run(test())


def test_a_segment_may_not_be_smaller_than_a_mebibyte(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        settings = await settings_of(bootstrap, topic)
        if settings["message.timestamp.after.max.ms"] != "3600000":
            pytest.skip("before 4.0, Kafka takes segments of 14 bytes")
        small = NewTopic(f"{topic}-small", 1, 1, topic_configs={"segment.bytes": "1048575"})
        async with an_admin(bootstrap) as admin:
            reply = await admin.create_topics([small])
        assert [error[1] for error in reply.topic_errors] == [40]

    run(test())


async def _is_absent(admin, topic) -> bool:
    """A broker learns of a deletion a moment after its controller has acknowledged it."""
    return topic not in await admin.list_topics()
