"""What migration makes of a broker: every topic, once, and a refusal by name where one differs."""

import asyncio

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.topics import RATED, USAGE, all_topics, topic
from services.local.ports import free_ports
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import run


async def described(address):
    """Every topic with its partitions and the settings that Tollhouse names."""
    async with brokers.admin(address) as admin:
        names = await admin.list_topics()
        topics = await admin.describe_topics(names)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        replies = await admin.describe_configs(resources)
    settings = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for reply in replies
        for resource in reply.resources
    }
    return {found["topic"]: (len(found["partitions"]), settings[found["topic"]]) for found in topics}


def test_the_first_run_creates_every_topic_and_the_second_does_nothing(tmp_path):
    async def test():
        async with brokers.broker(tmp_path) as address:
            kafka = KafkaConfig(bootstrap_servers=address)
            names = [each.name for each in all_topics()]
            assert await migrate_topics(kafka) == names
            assert await migrate_topics(kafka) == []
            found = await described(address)
        assert {name: partitions for name, (partitions, _) in found.items()} == {
            each.name: each.partitions for each in all_topics()
        }
        for each in all_topics():
            wanted = {**each.configs(), "min.insync.replicas": "1"}
            assert {name: found[each.name][1][name] for name in wanted} == wanted

    run(test())


def test_two_that_migrate_at_once_both_succeed(tmp_path):
    async def test():
        async with brokers.broker(tmp_path) as address:
            kafka = KafkaConfig(bootstrap_servers=address)
            await asyncio.gather(migrate_topics(kafka), migrate_topics(kafka))
            assert set(await described(address)) == {each.name for each in all_topics()}

    run(test())


def test_only_what_is_missing_is_created(tmp_path):
    async def test():
        async with brokers.broker(tmp_path) as address:
            kafka = KafkaConfig(bootstrap_servers=address)
            await migrate_topics(kafka)
            async with brokers.admin(address) as admin:
                await admin.delete_topics([RATED])
            assert await migrate_topics(kafka) == [RATED]

    run(test())


def test_every_topic_that_differs_is_refused_by_name(tmp_path):
    async def test():
        async with brokers.broker(tmp_path) as address:
            kafka = KafkaConfig(bootstrap_servers=address)
            await migrate_topics(kafka)
            settings = {**topic(RATED).configs(), "retention.ms": "1234"}
            async with brokers.admin(address) as admin:
                await admin.create_partitions({USAGE: NewPartitions(13)})
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, RATED, settings)])
            with pytest.raises(StartRefused) as refused:
                await migrate_topics(kafka)
        assert str(refused.value) == (
            "topics on the broker differ from schemas/topics.yaml: "
            "gateway.usage.v1 has 13 partitions instead of 12; "
            "gateway.rated.v1 has retention.ms=1234 instead of 2592000000."
        )

    run(test())


def test_what_the_broker_will_not_create_is_refused_by_name(tmp_path):
    async def test():
        async with brokers.broker(tmp_path) as address:
            with pytest.raises(
                StartRefused, match=r"Kafka would not create topics: gateway\.requests\.v1 \("
            ):
                await migrate_topics(KafkaConfig(bootstrap_servers=address, replication_factor=3))

    run(test())


def test_a_kafka_that_is_not_there_is_refused_with_its_address():
    async def test():
        address = f"127.0.0.1:{free_ports(1)}"
        with pytest.raises(StartRefused, match=f"cannot reach Kafka at {address}: "):
            await migrate_topics(KafkaConfig(bootstrap_servers=address))

    run(test())
