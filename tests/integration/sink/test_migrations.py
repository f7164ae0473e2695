"""Migrations against a real engine: once, again, interrupted, twice at once, and every contradiction."""

import asyncio
import shutil
import socket
import uuid
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.errors import StartRefused
from services.runtime.tables import MIGRATIONS, Applied, check_tables, migrate_tables, read_migrations
from services.sink.tables import TABLES, Table

ALL = [Applied(each.number, each.name, each.sha256) for each in read_migrations(MIGRATIONS)]
ONE = "-- the first\nCREATE TABLE IF NOT EXISTS tollhouse_raw.one (a UInt8) ENGINE = MergeTree ORDER BY a;\n"
TWO = "-- the second\nALTER TABLE tollhouse_raw.one ADD COLUMN IF NOT EXISTS b String;\n"


def query(config: ClickHouseConfig, sql: str):
    async def asked():
        async with ClickHouse(config) as clickhouse:
            return await clickhouse.rows(sql)

    return asyncio.run(asked())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text(ONE)
    (tmp_path / "0002_two.sql").write_text(TWO)
    return tmp_path


def test_an_empty_database_gets_every_migration_once(empty):
    assert asyncio.run(migrate_tables(empty)) == ALL
    assert asyncio.run(migrate_tables(empty)) == []
    asyncio.run(check_tables(empty))
    tables = query(
        empty,
        "SELECT database, name FROM system.tables WHERE database LIKE 'tollhouse%' ORDER BY database, name",
    )
    assert [tuple(row) for row in tables] == [
        ("tollhouse", "batches"),
        ("tollhouse", "completeness"),
        ("tollhouse", "cost_ledger"),
        ("tollhouse", "dead_letters"),
        ("tollhouse", "edges"),
        ("tollhouse", "price_books"),
        ("tollhouse", "requests"),
        ("tollhouse", "responses"),
        ("tollhouse", "usage"),
        ("tollhouse", "usage_hourly"),
        ("tollhouse_raw", "batches"),
        ("tollhouse_raw", "cost_ledger"),
        ("tollhouse_raw", "dead_letters"),
        ("tollhouse_raw", "edges"),
        ("tollhouse_raw", "price_books"),
        ("tollhouse_raw", "requests"),
        ("tollhouse_raw", "responses"),
        ("tollhouse_raw", "schema_migrations"),
        ("tollhouse_raw", "usage"),
        ("tollhouse_raw", "usage_hourly"),
        ("tollhouse_raw", "usage_hourly_generations"),
        ("tollhouse_raw", "usage_hourly_rebuilds"),
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_sink_gives_every_column_but_the_time_of_arrival_with_its_own_type(migrated, table: Table):
    columns = query(
        migrated,
        "SELECT name, type FROM system.columns "
        f"WHERE database = 'tollhouse_raw' AND table = '{table.name}' ORDER BY position",
    )
    assert [tuple(column) for column in columns] == [
        *table.columns,
        ("ingested_at", "DateTime64(3, 'UTC')"),
    ]


def test_a_new_migration_is_applied_behind_the_old_ones(empty, source: Path):
    (source / "0002_two.sql").unlink()
    assert [each.name for each in asyncio.run(migrate_tables(empty, source))] == ["0001_one.sql"]
    (source / "0002_two.sql").write_text(TWO)
    with pytest.raises(StartRefused, match=r"lacks 0002_two\.sql: run `tollhouse migrate` first\.$"):
        asyncio.run(check_tables(empty, source))
    assert [each.name for each in asyncio.run(migrate_tables(empty, source))] == ["0002_two.sql"]
    asyncio.run(check_tables(empty, source))
    names = query(empty, "SELECT name FROM system.columns WHERE database = 'tollhouse_raw' AND table = 'one'")
    assert names == [("a",), ("b",)]


def test_money_that_was_stored_before_it_had_eighteen_decimals_keeps_its_value(empty, tmp_path: Path):
    for migration in read_migrations(MIGRATIONS)[:4]:
        shutil.copy(str(MIGRATIONS.joinpath(migration.name)), tmp_path)
    asyncio.run(migrate_tables(empty, tmp_path))
    insert = (
        "INSERT INTO tollhouse_raw.usage (request_id, started_at, cost_status, cost_usd, cost_lines) "
        "WITH toDecimal64('999999.000000012501', 12) AS usd "
        "SELECT generateUUIDv4(), now(), 'priced', usd, map('input', usd)"
    )
    query(empty, insert)
    asyncio.run(migrate_tables(empty))
    amount = Decimal("999999.000000012501")
    found = query(empty, "SELECT cost_usd, cost_lines FROM tollhouse.usage")
    assert found == [(amount, {"input": amount})]
    # A sink of the release before goes on writing the columns as it knows them.
    asyncio.run(written_with_twelve_decimals(empty, amount))
    assert query(empty, "SELECT count(), sum(cost_usd) FROM tollhouse.usage") == [(2, amount * 2)]


async def written_with_twelve_decimals(config: ClickHouseConfig, amount: Decimal) -> None:
    names = ("request_id", "started_at", "cost_status", "cost_usd", "cost_lines")
    types = (
        "UUID",
        "DateTime64(3, 'UTC')",
        "LowCardinality(String)",
        "Decimal(18, 12)",
        "Map(LowCardinality(String), Decimal(18, 12))",
    )
    columns = [[uuid.uuid4()], [1_763_820_000_000], ["priced"], [amount], [{"input": amount}]]
    async with ClickHouse(config) as clickhouse:
        await clickhouse.insert("tollhouse_raw.usage", names, types, columns, "older")


def test_a_database_without_tables_is_told_apart_from_one_that_is_away(empty):
    with pytest.raises(StartRefused, match=r"lacks 0001_usage\.sql, .* run `tollhouse migrate` first\.$"):
        asyncio.run(check_tables(empty))


def test_a_file_that_was_edited_after_it_was_applied_is_refused(empty, source: Path):
    asyncio.run(migrate_tables(empty, source))
    (source / "0001_one.sql").write_text(ONE.replace("UInt8", "UInt16"))
    for refused in (migrate_tables, check_tables):
        with pytest.raises(StartRefused, match=r"^0001_one\.sql was edited after it had been applied"):
            asyncio.run(refused(empty, source))


def test_a_database_that_is_ahead_of_the_code_is_refused(empty, source: Path):
    asyncio.run(migrate_tables(empty, source))
    (source / "0002_two.sql").unlink()
    for refused in (migrate_tables, check_tables):
        with pytest.raises(StartRefused, match=r"^the database has 0002_two\.sql, which this version"):
            asyncio.run(refused(empty, source))


def test_a_migration_that_was_interrupted_is_finished_the_next_time(empty, source: Path):
    whole = ONE + "CREATE TABLE IF NOT EXISTS tollhouse_raw.other (c UInt8) ENGINE = MergeTree ORDER BY c;\n"
    (source / "0001_one.sql").write_text(ONE + "CREATE TABLE tollhouse_raw.other (broken;\n")
    with pytest.raises(
        StartRefused, match=r"^ClickHouse refused statement 2 of 0001_one\.sql: .*SYNTAX_ERROR"
    ):
        asyncio.run(migrate_tables(empty, source))
    (source / "0001_one.sql").write_text(whole)
    assert [each.number for each in asyncio.run(migrate_tables(empty, source))] == [1, 2]


def test_two_migrations_at_once_come_out_as_one(empty):
    async def twice() -> None:
        await asyncio.gather(migrate_tables(empty), migrate_tables(empty))

    asyncio.run(twice())
    asyncio.run(check_tables(empty))
    assert asyncio.run(migrate_tables(empty)) == []


def test_a_clickhouse_that_is_away_is_told_in_one_sentence(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused, and nobody else's
        config = ClickHouseConfig(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        for refused in (migrate_tables, check_tables):
            with pytest.raises(
                StartRefused, match=rf"^ClickHouse at {config.url} cannot be reached as default: "
            ):
                asyncio.run(refused(config))


def test_a_wrong_password_is_told_in_one_sentence_without_it(clickhouse_url: str):
    config = ClickHouseConfig(url=clickhouse_url, password="not-the-one")
    with pytest.raises(StartRefused, match=r"would not let default go on: AUTHENTICATION_FAILED") as caught:
        asyncio.run(check_tables(config))
    assert "not-the-one" not in str(caught.value)


def test_the_packaged_files_can_stand_in_any_folder(empty, tmp_path: Path):
    for migration in read_migrations(MIGRATIONS):
        shutil.copy(str(MIGRATIONS.joinpath(migration.name)), tmp_path)
    assert asyncio.run(migrate_tables(empty, tmp_path)) == ALL
    assert msgspec.structs.asdict(empty)["password"] == ""
