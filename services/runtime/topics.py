"""Creates the topics that schemas/topics.yaml names, and refuses brokers whose topics differ from it."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from schemas.topics import Topic, all_topics
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig

TOPIC_ALREADY_EXISTS = 36
READY_S_MAX = 30.0
READY_POLL_S = 0.1


async def migrate_topics(config: KafkaConfig) -> list[str]:
    """Create what is missing and check what is there; give the names created. StartRefused on a mismatch."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=config.bootstrap_servers, request_timeout_ms=config.request_timeout_ms
    )
    try:
        await admin.start()
    except (KafkaError, OSError) as exc:
        await admin.close()
        raise StartRefused(f"cannot reach Kafka at {config.bootstrap_servers}: {exc}.") from exc
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in all_topics() if topic.name not in existing]
        await _create(admin, missing, config)
        await _until_led(admin, missing)
        faults = await _mismatches(admin, [topic for topic in all_topics() if topic.name in existing])
    except (KafkaError, TimeoutError) as exc:
        raise StartRefused(
            f"Kafka at {config.bootstrap_servers} did not answer: {type(exc).__name__}."
        ) from exc
    finally:
        await admin.close()
    if faults:
        raise StartRefused("topics on the broker differ from schemas/topics.yaml: " + "; ".join(faults) + ".")
    return [topic.name for topic in missing]


async def _create(admin: AIOKafkaAdminClient, topics: Sequence[Topic], config: KafkaConfig) -> None:
    if not topics:
        return
    reply: Any = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                topic.partitions,
                config.replication_factor,
                topic_configs={
                    **topic.configs(),
                    "min.insync.replicas": str(config.min_insync_replicas),
                },
            )
            for topic in topics
        ]
    )
    refused = [
        f"{name} (error {code}: {text})"
        for name, code, text in reply.topic_errors
        if code not in (0, TOPIC_ALREADY_EXISTS)
    ]
    if refused:
        raise StartRefused("Kafka would not create topics: " + "; ".join(refused) + ".")


async def _until_led(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
    """Wait until every new partition has a leader: a broker answers creation before it is usable."""
    if not topics:
        return
    async with asyncio.timeout(READY_S_MAX):
        while True:
            described = await admin.describe_topics([topic.name for topic in topics])
            if all(
                found["error_code"] == 0 and all(part["leader"] >= 0 for part in found["partitions"])
                for found in described
            ):
                return
            await asyncio.sleep(READY_POLL_S)


async def _mismatches(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    if not topics:
        return []
    faults: list[str] = []
    described = await admin.describe_topics([topic.name for topic in topics])
    partitions = {found["topic"]: len(found["partitions"]) for found in described}
    settings = await _settings(admin, topics)
    for topic in topics:
        if partitions[topic.name] != topic.partitions:
            faults.append(
                f"{topic.name} has {partitions[topic.name]} partitions instead of {topic.partitions}"
            )
        faults.extend(
            f"{topic.name} has {name}={settings[topic.name].get(name)} instead of {value}"
            for name, value in topic.configs().items()
            if settings[topic.name].get(name) != value
        )
    return faults


async def _settings(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> Mapping[str, Mapping[str, str]]:
    replies: Any = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for reply in replies
        for resource in reply.resources
    }
