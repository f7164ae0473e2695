"""The interface as the services use it: clickhouse-connect's asynchronous client, bare and in the sink's."""

import asyncio
from decimal import Decimal

import pyarrow
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from services.runtime.clickhouse import ClickHouse, ClickHouseConfig, RowsRefused, StoreMismatch
from tests.integration.local_clickhouse.target import PASSWORD, URL, USER

TEST_S_MAX = 60.0


def run(test):
    """Run one test; a wait that never ends is a failure of that test alone."""

    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            return await test

    return asyncio.run(bounded())


@pytest.fixture
def with_client(target, database, table):
    """Run a test with a client of its own."""

    def with_client(test, **options):
        async def work():
            async with await target.async_client(database=database, **options) as client:
                return await test(client)

        return run(work())

    return with_client


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_a_large_insert_loses_no_block_in_any_coding(with_client, table, compress):
    count = 120_000

    async def test(client):
        columns = [list(range(count)), ["m" * 50] * count, [Decimal("0.000000000001")] * count]
        names = ["id", "model", "cost"]
        summary = await client.insert(table, columns, column_names=names, column_oriented=True)
        answer = await client.query(f"SELECT count(), sum(id), sum(cost) FROM {table}")
        return summary.written_rows, answer.result_rows

    total = (count, count * (count - 1) // 2, count * Decimal("0.000000000001"))
    assert with_client(test, compress=compress) == (count, [total])


def test_inserts_and_queries_run_at_once(with_client, table):
    async def test(client):
        await asyncio.gather(
            *(client.insert(table, [[number]], column_names=["id"]) for number in range(20)),
            *(client.query(f"SELECT count() FROM {table}") for _ in range(20)),
        )
        return (await client.query(f"SELECT count(), sum(id) FROM {table}")).result_rows

    assert with_client(test, autogenerate_session_id=False) == [(20, 190)]


def test_arrow_goes_in_and_comes_out(with_client, table):
    async def test(client):
        await client.insert_arrow(table, pyarrow.table({"id": [7, 8], "model": ["x", "y"]}))
        found = await client.query_arrow(f"SELECT id, model FROM {table} ORDER BY id")
        none = await client.query_arrow(f"SELECT id, model FROM {table} WHERE id = 9")
        return found.to_pydict(), none.num_rows, none.column_names

    assert with_client(test) == ({"id": [7, 8], "model": ["x", "y"]}, 0, ["id", "model"])


def test_rows_and_record_batches_of_any_number_stream(with_client):
    sql = "SELECT number AS n, repeat('x', 20) AS text FROM numbers(3000000)"

    async def test(client):
        async with await client.query_row_block_stream(sql) as blocks:
            rows = sum([len(block) async for block in blocks])
        async with await client.query_arrow_stream(sql) as batches:
            numbers = [(batch.num_rows, pyarrow.compute.sum(batch["n"]).as_py()) async for batch in batches]
        return rows, sum(rows for rows, _ in numbers), sum(total for _, total in numbers)

    assert with_client(test) == (3_000_000, 3_000_000, 3_000_000 * 2_999_999 // 2)


def test_parameters_settings_and_errors_are_the_requests_own(with_client):
    async def test(client):
        bound = await client.query(
            "SELECT {s:String}, getSetting('max_block_size')",
            parameters={"s": "it's\ta \\ \n{x}"},
            settings={"max_block_size": 77},
        )
        errors = []
        for sql in ("SELECT * FROM nothing", "SELEC 1", "SELECT throwIf(number = 9) FROM numbers(10)"):
            with pytest.raises(DatabaseError) as error:
                await client.query(sql)
            errors.append(error.value.code)
        return bound.result_rows, errors

    assert with_client(test) == ([("it's\ta \\ \n{x}", 77)], [60, 62, 395])


def test_the_services_client_tells_what_its_caller_does_next(target, database, client, table):
    url = URL or f"http://127.0.0.1:{target.port}"
    client.command(f"ALTER TABLE {table} ADD CONSTRAINT odd CHECK id != 666")
    name = f"{database}.{table}"

    async def test():
        async with ClickHouse(ClickHouseConfig(url=url, user=USER, password=PASSWORD)) as store:
            for _ in range(2):
                await store.insert(name, ["id"], ["UInt64"], [[1, 2]], "one token")
            with pytest.raises(RowsRefused):
                await store.insert(name, ["id"], ["UInt64"], [[3, 666]], "another")
            with pytest.raises(StoreMismatch):
                await store.insert(name, ["nothing"], ["UInt64"], [[3]], "a third")
            return await store.rows(f"SELECT count(), sum(id) FROM {name}")

    assert list(map(tuple, run(test()))) == [(2, 3)]
