"""The Kafka of a chaos world: the local stand-in, or Apache brokers that deploy/kafka starts and kills."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.chaos.processes import POLL_S, Command, Managed, python
from tests.e2e.conftest import ROOT

NODE = ROOT / "deploy" / "kafka" / "node.py"
NODE_S_MAX = 120.0
ADMIN_TIMEOUT_MS = 10_000
APACHE_BROKERS = 3
BEYOND_MIN_INSYNC = ("kafka-1", "kafka-2")  # the one that is left may not acknowledge alone


class LocalKafka:
    """One stand-in, replicated by nobody."""

    replicas = 1
    min_insync_replicas = 1

    def __init__(self, data_dir: Path, port: int, logs: Path) -> None:
        argv = python("services.local.kafka", "--port", port, "--data-dir", data_dir / "kafka")
        self.servers = f"127.0.0.1:{port}"
        self.brokers = {"kafka": Managed(Command("kafka", argv, {}, port, ""), logs)}

    async def start(self) -> None:
        for broker in self.brokers.values():
            await broker.start()
            await broker.until_ready()

    async def until_whole(self) -> None:
        """Wait until it may be lost again."""
        await self.brokers["kafka"].until_ready()

    async def lose(self) -> None:
        """Kill so many brokers that nothing is acknowledged any more."""
        await self.brokers["kafka"].kill()

    async def mend(self) -> None:
        """Bring back what was lost."""
        await self.brokers["kafka"].start()
        await self.brokers["kafka"].until_ready()

    async def close(self) -> None:
        for broker in self.brokers.values():
            await broker.kill()


class ApacheKafka:
    """Three brokers of one cluster, with a data directory of their own; one at a time may be away."""

    replicas = 3
    min_insync_replicas = 2

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir / "apache"
        self.servers = ""
        self.brokers = {
            f"kafka-{number}": ApacheBroker(number, self._data_dir) for number in range(1, APACHE_BROKERS + 1)
        }

    async def start(self) -> None:
        await _node("start", self._data_dir, "--brokers", str(APACHE_BROKERS), "--port", "0")
        self.servers = (await _node("servers", self._data_dir)).strip()

    async def until_whole(self) -> None:
        """Wait until every replica of every topic holds everything: the next broker may be lost."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers, request_timeout_ms=ADMIN_TIMEOUT_MS)
        await admin.start()
        try:
            async with asyncio.timeout(NODE_S_MAX):
                while not await _is_in_sync(admin):  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(POLL_S)
        finally:
            await admin.close()

    async def lose(self) -> None:
        """Kill so many brokers that nothing is acknowledged any more."""
        await asyncio.gather(*(self.brokers[name].kill() for name in BEYOND_MIN_INSYNC))

    async def mend(self) -> None:
        """Bring back what was lost."""
        await asyncio.gather(*(self.brokers[name].start() for name in BEYOND_MIN_INSYNC))
        await self.until_whole()

    async def close(self) -> None:
        for broker in self.brokers.values():
            broker.thaw()
        await _node("stop", self._data_dir)


class ApacheBroker:
    """One of the three, with the hands that `Managed` has for every other process."""

    def __init__(self, number: int, data_dir: Path) -> None:
        self.name = f"kafka-{number}"
        self._chosen = ("--broker", str(number))
        self._data_dir = data_dir
        self._pid_file = data_dir / f"broker-{number}" / "broker.pid"

    async def start(self) -> None:
        await _node("start", self._data_dir, *self._chosen)

    async def kill(self) -> None:
        await _node("kill", self._data_dir, *self._chosen)

    async def end(self) -> int:
        await _node("stop", self._data_dir, *self._chosen)
        return 0

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def check(self) -> None:
        """Apache Kafka is not what is tested: it may do as it likes."""

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(self._pid_file.read_text()), number)


async def _is_in_sync(admin: AIOKafkaAdminClient) -> bool:
    try:
        topics = await admin.describe_topics()
    except KafkaError:
        return False  # the broker that was asked may be the one that comes back
    return all(len(part["isr"]) == APACHE_BROKERS for topic in topics for part in topic["partitions"])


async def _node(command: str, data_dir: Path, *more: str) -> str:
    argv = (sys.executable, str(NODE), command, "--data-dir", str(data_dir), *more)
    done = await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, timeout=NODE_S_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
