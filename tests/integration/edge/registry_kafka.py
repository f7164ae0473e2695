"""The Kafka of the registry's tests: the stand-in, or with TOLLHOUSE_REGISTRY_KAFKA=apache a real broker.

Each is started for one test, on data of its own: the registry's topic has one name everywhere.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.local_kafka.brokers import BrokerProcess
from tests.integration.runtime import brokers
from tests.integration.runtime.conftest import lasting_port

IS_APACHE = os.environ.get("TOLLHOUSE_REGISTRY_KAFKA") == "apache"
NODE = Path(__file__).resolve().parents[3] / "deploy" / "kafka" / "node.py"
# A start takes some 5 s, 15 after a kill.
NODE_S_MAX = 120.0


class ApacheBroker:
    """One broker of Apache Kafka, with the hands that a `BrokerProcess` has."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.address = ""

    def start(self):
        """Start it: the first time on a free port, then where it was."""
        if self.address:
            self._obey("start", "--port", self.address.partition(":")[2])
        else:
            self._obey("start", "--port", "0")
            self.address = self._obey("servers").strip()
        return self

    def kill(self):
        self._obey("kill", "--broker", "1")

    def stop(self):
        self._obey("stop")

    def _obey(self, *arguments):
        command = [sys.executable, str(NODE), *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=NODE_S_MAX, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def lasting_broker(data_dir):
    """Give a broker, not started yet, that a test may kill, and start again where it was."""
    if IS_APACHE:
        return ApacheBroker(data_dir)
    process = BrokerProcess(data_dir)
    process.port = lasting_port()
    return process


def wipe(broker):
    """Take from a broker that does not run all that it held."""
    shutil.rmtree(broker.data_dir)


@contextlib.asynccontextmanager
async def running_broker(data_dir):
    """Run a broker for a block, the stand-in in this event loop, and give its address."""
    if not IS_APACHE:
        async with brokers.broker(data_dir) as address:
            yield address
        return
    broker = ApacheBroker(data_dir)
    try:
        yield (await asyncio.to_thread(broker.start)).address
    finally:
        await asyncio.to_thread(broker.stop)
