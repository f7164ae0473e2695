"""One local ClickHouse for the whole session; each test starts from a database as it needs it."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.tables import migrate_tables

START_S_MAX = 30
STOP_S_MAX = 10


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "services.local.clickhouse", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path_factory.mktemp("clickhouse"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    overdue = threading.Timer(START_S_MAX, process.kill)
    overdue.start()
    try:
        for line in process.stdout:
            said.append(line)
            port = re.search(r"\bport\W+(\d+)", line)
            if "local_clickhouse.started" in line and port is not None:
                overdue.cancel()
                yield f"http://127.0.0.1:{port[1]}"
                break
        else:
            pytest.fail("the local ClickHouse did not start: " + "".join(said))
    finally:
        overdue.cancel()
        process.terminate()
        process.wait(STOP_S_MAX)
        process.stdout.close()


@pytest.fixture
def empty(clickhouse_url: str) -> ClickHouseConfig:
    """A ClickHouse that has never seen Tollhouse."""
    config = ClickHouseConfig(url=clickhouse_url)

    async def drop() -> None:
        async with ClickHouse(config) as clickhouse:
            await clickhouse.command("DROP DATABASE IF EXISTS tollhouse SYNC")
            await clickhouse.command("DROP DATABASE IF EXISTS tollhouse_raw SYNC")

    asyncio.run(drop())
    return config


@pytest.fixture
def migrated(empty: ClickHouseConfig) -> ClickHouseConfig:
    """A ClickHouse with every table, all of them empty."""
    asyncio.run(migrate_tables(empty))
    return empty
