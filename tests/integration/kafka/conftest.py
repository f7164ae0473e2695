"""The broker under test: what KAFKA_BOOTSTRAP_SERVERS names, or a local stand-in of the suite's own."""

import asyncio
import itertools
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.integration.kafka.clients import SERVERS, an_admin

START_S_MAX = 30.0
STOP_S_MAX = 10.0

RUN = f"it-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the broker; what the tests made on somebody's broker is deleted at the end."""
    if SERVERS:
        yield SERVERS
        asyncio.run(_delete_topics_of_this_run(SERVERS))
        return
    command = [sys.executable, "-m", "services.local.kafka", "--port", "0", "--retention-interval-s", "0.2"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path_factory.mktemp("kafka"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    overdue = threading.Timer(START_S_MAX, process.kill)
    overdue.start()
    try:
        said = _until_started(process)
        overdue.cancel()
        # A pipe that nobody empties would stop the broker when it is full.
        threading.Thread(target=process.communicate, daemon=True).start()
        yield f"127.0.0.1:{said}"
    finally:
        overdue.cancel()
        process.terminate()
        process.wait(STOP_S_MAX)


def _until_started(process: subprocess.Popen[str]) -> int:
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        port = re.search(r'"port"\W+(\d+)', line)
        if "kafka.started" in line and port is not None:
            return int(port[1])
    pytest.fail("the local Kafka did not start: " + "".join(said))


@pytest.fixture(scope="session")
def fresh() -> Callable[[str], str]:
    """Give names for topics, groups and transactions that nobody has used before."""
    numbers = itertools.count()
    return lambda what: f"{RUN}-{what}-{next(numbers)}"


@pytest.fixture
def topic(fresh: Callable[[str], str]) -> str:
    """A name for a topic that does not exist yet."""
    return fresh("topic")


@pytest.fixture
def group(fresh: Callable[[str], str]) -> str:
    """A name for a consumer group that does not exist yet."""
    return fresh("group")


async def _delete_topics_of_this_run(bootstrap: str) -> None:
    async with an_admin(bootstrap) as admin:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(RUN)])
