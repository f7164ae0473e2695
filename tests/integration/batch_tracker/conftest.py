"""A local Kafka with every topic, for all tests here, or for one that leaves members of the group behind."""

import asyncio

import pytest

from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.integration.local_kafka.brokers import BrokerProcess


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """The broker that tests share: each makes batches of its own, and leaves none that is waited for."""
    yield from _running(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def own_kafka(tmp_path):
    yield from _running(tmp_path / "kafka")


def _running(folder):
    process = BrokerProcess(folder)
    config = KafkaConfig(bootstrap_servers=process.start().address, request_timeout_ms=10_000)
    try:
        asyncio.run(migrate_topics(config))
        yield config
    finally:
        process.stop()
