"""One local Kafka process for the whole session; every test works on topics and groups of its own."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.kafka import KafkaConfig
from tests.integration.local_kafka.brokers import BrokerProcess


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConfig]:
    """The broker that tests share, and may not disturb."""
    process = BrokerProcess(tmp_path_factory.mktemp("kafka"))
    yield KafkaConfig(bootstrap_servers=process.start().address, request_timeout_ms=5_000)
    process.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of one test's own, to kill and to start again on the same directory and port."""
    process = BrokerProcess(tmp_path / "kafka")
    process.port = lasting_port()
    yield process.start()
    process.stop()


def lasting_port() -> int:
    """A free port that the system gives to no client, so that it is still free when the broker comes back."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port")
