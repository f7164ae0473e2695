"""Starts the two brokers that are compared, on free ports and empty data, and ends them."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
APACHE_NODE = ROOT / "deploy" / "kafka" / "node.py"
START_S_MAX = 120  # Apache Kafka's own bound is 60, and its first start fetches the jars
STOP_S_MAX = 60
APACHE_ANSWERS = re.compile(r"Kafka (\S+) answers on (\S+) after ([\d.]+) s \(pid (\d+)\)")
LOCAL_STARTED = re.compile(r'"port"\W+(\d+)')


class BrokerAway(Exception):
    """A broker did not start: its text says why."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A running broker."""

    name: str
    servers: str
    pid: int
    start_s: float
    data_dir: Path


@contextmanager
def local_kafka(data_dir: Path) -> Generator[Broker]:
    """Run the stand-in; its start is timed from the process's to the log line that tells its port."""
    command = [sys.executable, "-m", "services.local.kafka", "--port", "0", "--data-dir", str(data_dir)]
    began_s = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    overdue = threading.Timer(START_S_MAX, process.kill)
    overdue.start()
    try:
        port = _started_port(process)
        start_s = time.monotonic() - began_s
        overdue.cancel()
        # A pipe that nobody empties would stop the broker when it is full.
        threading.Thread(target=process.communicate, daemon=True).start()
        yield Broker(
            name="local Kafka",
            servers=f"127.0.0.1:{port}",
            pid=process.pid,
            start_s=start_s,
            data_dir=data_dir,
        )
    finally:
        overdue.cancel()
        process.terminate()
        process.wait(STOP_S_MAX)


@contextmanager
def apache_kafka(data_dir: Path) -> Generator[Broker]:
    """Run one node of Apache Kafka; its start is timed by deploy/kafka, formatting the directory included."""
    try:
        said = _node("start", "--port", "0", "--data-dir", str(data_dir))
        found = APACHE_ANSWERS.search(said)
        if found is None:
            raise BrokerAway(said)
        version, servers, start_s, pid = found.groups()
        yield Broker(
            name=f"Apache Kafka {version}",
            servers=servers,
            pid=int(pid),
            start_s=float(start_s),
            data_dir=data_dir,
        )
    finally:
        _node("stop", "--data-dir", str(data_dir))


def _started_port(process: subprocess.Popen[str]) -> int:
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        port = LOCAL_STARTED.search(line)
        if "kafka.started" in line and port is not None:
            return int(port[1])
    raise BrokerAway("the local Kafka did not start: " + "".join(said))


def _node(*arguments: str) -> str:
    command = [sys.executable, str(APACHE_NODE), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S_MAX)
    return done.stdout + done.stderr
