"""Inserts blocks of the usage table through HTTP and gives the rows per second of each client."""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from schemas import codec
from schemas.rated import RatedUsage
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.tables import migrate_tables
from services.sink.rows import usage_row
from services.sink.tables import USAGE
from tests.bench.machine import directory_mb, rss_mb
from tests.integration.local_clickhouse.server import LocalClickHouse

GOLDEN = Path(__file__).parents[2] / "schemas" / "golden" / "rated_usage.v1" / "priced.json"
BLOCK_ROWS = 50_000
CODINGS = {"uncompressed": False, "lz4": "lz4", "zstd": "zstd"}

Columns = list[Sequence[object]]


class Figures(NamedTuple):
    """What one run of the server came to."""

    start_s: float
    idle_mb: float
    after_mb: float
    disk_mb: float
    rows: int
    rows_per_s: dict[str, list[float]]


def measure(data_dir: Path, rounds: int, seed: int) -> Figures:
    """Run a server, insert with each client in turn, and count afterwards that every row is there."""
    began_s = time.monotonic()
    server = LocalClickHouse(data_dir)
    start_s = time.monotonic() - began_s
    try:
        idle_mb = rss_mb(server.process.pid)
        asyncio.run(migrate_tables(ClickHouseConfig(url=f"http://127.0.0.1:{server.port}")))
        chance = random.Random(seed)
        _rates(server, 1, chance)  # not counted: everything is loaded and compiled at its first use
        rates = _rates(server, rounds, chance)
        blocks = (rounds + 1) * len(rates)
        with server.client(autogenerate_session_id=False) as client:
            assert client.command(f"SELECT count() FROM {USAGE.full_name}") == blocks * BLOCK_ROWS
        return Figures(
            start_s=start_s,
            idle_mb=idle_mb,
            after_mb=rss_mb(server.process.pid),
            disk_mb=directory_mb(data_dir),
            rows=blocks * BLOCK_ROWS,
            rows_per_s=rates,
        )
    finally:
        server.stop()


def _rates(server: LocalClickHouse, rounds: int, chance: random.Random) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, coding in CODINGS.items():
            taken_s = _insert_with_clickhouse_connect(server, coding, _block(chance))
            rates.setdefault(f"clickhouse-connect, Native, {name}", []).append(BLOCK_ROWS / taken_s)
        taken_s = asyncio.run(_insert_as_the_sink(server, _block(chance)))
        rates.setdefault("the sink's client", []).append(BLOCK_ROWS / taken_s)
    return rates


def _insert_with_clickhouse_connect(server: LocalClickHouse, coding: str | bool, columns: Columns) -> float:
    with server.client(autogenerate_session_id=False, compress=coding) as client:
        began_s = time.monotonic()
        client.insert(
            USAGE.full_name,
            columns,
            column_names=USAGE.names,
            column_type_names=USAGE.types,
            column_oriented=True,
        )
        return time.monotonic() - began_s


async def _insert_as_the_sink(server: LocalClickHouse, columns: Columns) -> float:
    async with ClickHouse(ClickHouseConfig(url=f"http://127.0.0.1:{server.port}")) as store:
        await store.rows("SELECT 1")  # connects
        began_s = time.monotonic()
        await store.insert(USAGE.full_name, USAGE.names, USAGE.types, columns, uuid.uuid4().hex)
        return time.monotonic() - began_s


def _block(chance: random.Random) -> Columns:
    """Make a block whose rows differ in what differs between exchanges."""
    row = usage_row(codec.decode(RatedUsage, GOLDEN.read_bytes()))
    columns: Columns = [[value] * BLOCK_ROWS for value in row]
    for place, (name, kind) in enumerate(zip(USAGE.names, USAGE.types, strict=True)):
        if name == "request_id":
            columns[place] = [chance.getrandbits(128) for _ in range(BLOCK_ROWS)]
        elif kind == "UInt64" and name.endswith(("_tokens", "_ms", "_us", "_seq")):
            columns[place] = [chance.randrange(200_000) for _ in range(BLOCK_ROWS)]
        elif name in ("end_user_id", "session_id", "message_id", "upstream_request_id"):
            columns[place] = [f"{name}-{chance.getrandbits(64):x}" for _ in range(BLOCK_ROWS)]
    return columns
