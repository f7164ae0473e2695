import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.integration.local_kafka.brokers import admin, broker, consumer, create_topic, producer


async def configs_of(client, name):
    (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    (resource,) = answer.resources
    return resource[0], {entry[0]: entry[1] for entry in resource[4]}


def test_topics_are_created_once_listed_grown_and_deleted(tmp_path):
    async def run():
        async with broker(tmp_path) as address, admin(address) as client:
            codes = []
            for _ in range(2):
                answer = await client.create_topics([NewTopic("t", 2, 1)])
                codes.append(answer.topic_errors[0][1])
            await client.create_partitions({"t": NewPartitions(5)})
            described = (await client.describe_topics(["t"]))[0]
            before = await client.list_topics()
            deleted = await client.delete_topics(["t", "u"])
            return (
                codes,
                len(described["partitions"]),
                before,
                [tuple(item) for item in deleted.topic_error_codes],
                await client.list_topics(),
            )

    assert asyncio.run(run()) == ([0, 36], 5, ["t"], [("t", 0), ("u", 3)], [])


def test_what_cannot_be_created_is_refused_with_kafkas_codes(tmp_path):
    wrong = {
        "no such/name": NewTopic("no such/name", 1, 1),
        "replicas": NewTopic("replicas", 1, 3),
        "none": NewTopic("none", 0, 1),
        "many": NewTopic("many", 100_000, 1),
        "config": NewTopic("config", 1, 1, topic_configs={"bogus": "1"}),
        "value": NewTopic("value", 1, 1, topic_configs={"retention.ms": "soon"}),
    }

    async def run():
        async with broker(tmp_path) as address, admin(address) as client:
            answer = await client.create_topics(list(wrong.values()))
            return {error[0]: error[1] for error in answer.topic_errors}, await client.list_topics()

    assert asyncio.run(run()) == (
        {"no such/name": 17, "replicas": 38, "none": 37, "many": 37, "config": 40, "value": 40},
        [],
    )


def test_altering_configs_replaces_them_and_survives_a_restart(tmp_path):
    async def run():
        async with broker(tmp_path) as address, admin(address) as client:
            await create_topic(address, "t", cleanup_policy="compact", retention_ms=5)
            before = await configs_of(client, "t")
            resource = ConfigResource(ConfigResourceType.TOPIC, "t", {"retention.ms": "77"})
            await client.alter_configs([resource])
            bogus = ConfigResource(ConfigResourceType.TOPIC, "t", {"bogus": "77"})
            (refused,) = await client.alter_configs([bogus])
            after = await configs_of(client, "t")
        async with broker(tmp_path) as address, admin(address) as client:
            assert await configs_of(client, "t") == after
            unknown = await configs_of(client, "nowhere")
        names = ("cleanup.policy", "retention.ms")
        return (
            [[found[name] for name in names] for _, found in (before, after)],
            refused.resources[0][:2],
            unknown,
        )

    assert asyncio.run(run()) == (
        [["compact", "5"], ["delete", "77"]],
        (40, "Unknown topic config name: bogus"),
        (3, {}),
    )


def test_records_are_deleted_from_the_front(tmp_path):
    place = TopicPartition("t", 0)

    async def run():
        async with broker(tmp_path) as address, admin(address) as client:
            await create_topic(address, "t")
            async with producer(address) as sender:
                for number in range(10):
                    await sender.send_and_wait("t", b"%d" % number)
            marks = await client.delete_records({place: RecordsToDelete(before_offset=4)})
            async with consumer(address, "t") as reader:
                first = await reader.getone()
                return marks, first.offset, await reader.end_offsets([place])

    assert asyncio.run(run()) == ({place: 4}, 4, {place: 10})


def test_a_recreated_topic_starts_empty_and_without_old_positions(tmp_path):
    place = TopicPartition("t", 0)

    async def run():
        async with broker(tmp_path) as address, admin(address) as client:
            await create_topic(address, "t")
            async with producer(address) as sender:
                await sender.send_and_wait("t", b"old")
            async with consumer(address, group_id="g", enable_auto_commit=False) as reader:
                reader.assign([place])
                await reader.commit({place: 1})
            await client.delete_topics(["t"])
            await create_topic(address, "t")
            async with consumer(address, group_id="g", enable_auto_commit=False) as reader:
                reader.assign([place])
                return await reader.end_offsets([place]), await reader.committed(place)

    assert asyncio.run(run()) == ({place: 0}, None)
