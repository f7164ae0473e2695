"""Three brokers that somebody started with deploy/kafka/node.py, to be killed and started by the tests."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime.kafka import KafkaConfig

DATA_DIR = os.environ.get("TOLLHOUSE_TEST_KAFKA_CLUSTER", "")
NODE = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "node.py"
COMMAND_S_MAX = 90
BROKERS = (1, 2, 3)


class Cluster:
    """The brokers by number; a command returns when it has taken effect."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self.servers = self._obey("servers")

    async def kill(self, broker: int) -> None:
        await asyncio.to_thread(self._obey, "kill", broker)

    async def stop(self, broker: int) -> None:
        await asyncio.to_thread(self._obey, "stop", broker)

    async def start(self, *brokers: int) -> None:
        async with asyncio.TaskGroup() as starting:
            for broker in brokers:
                starting.create_task(asyncio.to_thread(self._obey, "start", broker))

    def mend(self) -> None:
        """Bring back whoever is away; a broker that runs refuses to be started, at once."""
        for broker in BROKERS:
            self._told("start", broker)

    def _obey(self, command: str, broker: int | None = None) -> str:
        done = self._told(command, broker)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _told(self, command: str, broker: int | None) -> subprocess.CompletedProcess[str]:
        chosen = [] if broker is None else ["--broker", str(broker)]
        return subprocess.run(
            [sys.executable, str(NODE), command, "--data-dir", self._data_dir, *chosen],
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A whole cluster; what a test broke and did not mend is mended."""
    if not DATA_DIR:
        pytest.skip("TOLLHOUSE_TEST_KAFKA_CLUSTER names no data directory of three brokers (make test-kafka)")
    found = Cluster(DATA_DIR)
    yield found
    found.mend()


@pytest.fixture
def kafka(cluster: Cluster) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=cluster.servers, replication_factor=3, min_insync_replicas=2)


@pytest.fixture
def topic() -> str:
    return f"cluster-{uuid.uuid4().hex}"
