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
    asyncio.run(_dropped(config))
    return config


@pytest.fixture(scope="session")
def as_migrated(clickhouse_url: str) -> list[str]:
    """How every table reads when it is new."""
    config = ClickHouseConfig(url=clickhouse_url)

    async def read() -> list[str]:
        await _dropped(config)
        await migrate_tables(config)
        async with ClickHouse(config) as clickhouse:
            return await _as_created(clickhouse)

    return asyncio.run(read())


@pytest.fixture
def migrated(clickhouse_url: str, as_migrated: list[str]) -> ClickHouseConfig:
    """A ClickHouse with every table, all of them empty; made anew only where a test has changed one."""
    config = ClickHouseConfig(url=clickhouse_url)

    async def emptied() -> None:
        async with ClickHouse(config) as clickhouse:
            if await _as_created(clickhouse) != as_migrated:
                await _dropped(config)
                await migrate_tables(config)
                return
            for (name,) in await clickhouse.rows(
                "SELECT name FROM system.tables WHERE database = 'tollhouse_raw' "
                "AND name != 'schema_migrations' AND engine LIKE '%MergeTree' AND total_rows > 0"
            ):
                await clickhouse.command(f"TRUNCATE TABLE tollhouse_raw.{name} SYNC")

    asyncio.run(emptied())
    return config


async def _dropped(config: ClickHouseConfig) -> None:
    async with ClickHouse(config) as clickhouse:
        await clickhouse.command("DROP DATABASE IF EXISTS tollhouse SYNC")
        await clickhouse.command("DROP DATABASE IF EXISTS tollhouse_raw SYNC")


async def _as_created(clickhouse: ClickHouse) -> list[str]:
    rows = await clickhouse.rows(
        "SELECT create_table_query FROM system.tables "
        "WHERE database LIKE 'tollhouse%' ORDER BY database, name"
    )
    return [str(row[0]) for row in rows]
