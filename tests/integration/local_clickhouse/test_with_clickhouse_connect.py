"""The whole interface as analysts use it: through clickhouse-connect's synchronous client, unchanged."""

import datetime
import threading
from decimal import Decimal

import pyarrow
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

UTC = datetime.UTC
COLUMNS = ["id", "at", "model", "cost", "tags"]
ROWS = [
    (1, datetime.datetime(2026, 11, 22, 1, 2, 3, 456000, UTC), "opus", Decimal("0.000000000001"), {"a": "b"}),
    (2, datetime.datetime(2026, 11, 22, 4, 5, 6, 0, UTC), "it's\ta \\ \n'", Decimal("-12345.5"), {}),
]


def rows_of(client, sql="SELECT * FROM usage ORDER BY id", **options):
    return client.query(sql, tz_mode="aware", **options).result_rows


@pytest.mark.parametrize("compress", [False, True, "lz4", "zstd", "gzip"])
def test_rows_come_back_as_they_were_inserted(target, database, table, compress):
    with target.client(database=database, compress=compress) as client:
        columns = [list(column) for column in zip(*ROWS, strict=True)]
        summary = client.insert(table, columns, column_names=COLUMNS, column_oriented=True)
        assert summary.written_rows == 2
        assert rows_of(client) == ROWS


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip"])
def test_no_block_of_a_large_compressed_insert_is_lost(target, database, table, compress):
    """A client sends one frame per block, and about four blocks here."""
    count = 200_000
    with target.client(database=database, compress=compress) as client:
        columns = [list(range(count)), ["m" * 50] * count]
        client.insert(table, columns, column_names=["id", "model"], column_oriented=True)
        assert client.command("SELECT count(), sum(id), uniqExact(_part) FROM usage") == [
            str(count),
            str(count * (count - 1) // 2),
            "1",
        ]


def test_parameters_are_bound_by_the_engine(client):
    sql = "SELECT {s:String}, {n:UInt8}, {d:Decimal(18, 12)}, {a:Array(String)}, {nothing:Nullable(Int8)}"
    values = {"s": "it's\ta \\ \n{x}", "n": 5, "d": Decimal("0.1"), "a": ["x", "y'"], "nothing": None}
    assert client.query(sql, parameters=values).result_rows == [tuple(values.values())]


def test_arrow_goes_in_and_comes_out(client, table):
    client.insert_arrow(table, pyarrow.table({"id": [7, 8], "model": ["x", "y"]}))
    assert client.query_arrow("SELECT id, model FROM usage ORDER BY id").to_pydict() == {
        "id": [7, 8],
        "model": ["x", "y"],
    }


def test_commands_answer_with_a_value_or_with_none(client, table):
    assert client.command("SELECT 1") == 1
    assert client.command("SHOW TABLES") == "usage"
    assert client.command("EXISTS TABLE nothing") == 0
    assert client.command("SELECT name FROM system.tables WHERE name = 'nothing'") == ""
    assert client.command("INSERT INTO usage (id) VALUES (1), (2)").summary["written_rows"] == "2"
    assert client.command("INSERT INTO usage (id) FORMAT CSV", data="3\n4\n").summary["written_rows"] == "2"
    assert client.command("OPTIMIZE TABLE usage FINAL").query_id() != ""
    assert client.query("SELECT * FROM usage LIMIT 0").column_names == tuple(COLUMNS)
    assert client.query("SELECT * FROM usage WHERE id = 9").result_rows == []


def test_raw_inserts_and_queries_take_any_format(client, table):
    client.raw_insert(table, ["id", "model"], b'{"id": 1, "model": "a"}\n', fmt="JSONEachRow")
    client.raw_insert(table, ["id", "model"], iter([b"2,b\n", b"3,c\n"]), fmt="CSV")
    assert client.raw_query("SELECT id, model FROM usage ORDER BY id", fmt="CSV") == b'1,"a"\n2,"b"\n3,"c"\n'


def test_an_insert_is_repeated_without_effect_under_its_token(client, table):
    for _ in range(2):
        client.insert(
            table, [[1], [2]], column_names=["id"], settings={"insert_deduplication_token": "batch 1"}
        )
    client.insert(table, [[1], [2]], column_names=["id"], settings={"insert_deduplication_token": "batch 2"})
    assert client.command("SELECT count() FROM usage") == 4


def test_an_insert_that_breaks_a_constraint_fails_and_leaves_nothing(client, table):
    client.command(f"ALTER TABLE {table} ADD CONSTRAINT odd CHECK id != 666")
    with pytest.raises(DatabaseError) as caught:
        client.insert(table, [[1, 666]], column_names=["id"], column_oriented=True)
    assert (caught.value.code, caught.value.name) == (469, "VIOLATED_CONSTRAINT")
    assert rows_of(client) == []


def test_an_insert_into_too_many_partitions_fails_and_leaves_nothing(client):
    client.command("CREATE TABLE wide (id UInt64) ENGINE = MergeTree ORDER BY id PARTITION BY id")
    with pytest.raises(DatabaseError) as caught:
        client.insert("wide", [list(range(200))], column_names=["id"], column_oriented=True)
    assert caught.value.code == 252
    assert client.query("SELECT count() FROM wide").result_rows == [(0,)]


def test_an_insert_that_cannot_be_read_to_its_end_leaves_nothing(client, table):
    with pytest.raises(DatabaseError) as error:
        client.raw_insert(table, ["id"], b"1\n2\nthree\n", fmt="CSV")
    assert (error.value.code, error.value.name) == (117, "INCORRECT_DATA")
    assert client.command("SELECT count() FROM usage") == 0


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT * FROM nothing", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing FROM system.one", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 100000) FROM numbers(200000)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_errors_carry_the_code_and_the_name(client, sql, code, name):
    with pytest.raises(DatabaseError) as error:
        client.query(sql)
    assert (error.value.code, error.value.name) == (code, name)


def test_settings_last_for_their_request(client):
    with pytest.raises(DatabaseError) as error:
        client.query(
            "SELECT sleepEachRow(0.1) FROM numbers(100)",
            settings={"max_execution_time": 0.2, "max_block_size": 1},
        )
    assert (error.value.code, error.value.name) == (159, "TIMEOUT_EXCEEDED")
    assert client.command("SELECT getSetting('max_execution_time')") != 0.2


def test_a_result_larger_than_what_is_held_streams(client):
    sql = "SELECT number, repeat('x', 10) AS text FROM numbers(2000000)"
    with client.query_row_block_stream(sql) as blocks:
        assert sum(len(block) for block in blocks) == 2_000_000


def test_an_error_in_the_middle_of_a_stream_is_told_with_its_code(client):
    sql = "SELECT throwIf(number = 2000000) AS ok, number FROM numbers(4000000)"
    with (
        pytest.raises(DatabaseError) as error,
        client.query_row_block_stream(sql, settings={"max_threads": 1}) as blocks,
    ):
        assert sum(len(block) for block in blocks) < 2_000_000
    assert (error.value.code, error.value.name) == (395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO")


def test_a_session_keeps_its_tables_settings_and_database(target, client, database):
    with target.client(session_id=database) as session:
        session.command("CREATE TEMPORARY TABLE own (id UInt8)")
        session.insert("own", [[1], [2]], column_names=["id"])
        session.command("SET max_threads = 3")
        session.command(f"USE {database}")
        sql = "SELECT sum(id), getSetting('max_threads'), currentDatabase() FROM own"
        assert session.query(sql).result_rows == [(3, 3, database)]
        assert session.query(sql, settings={"max_threads": 7}).result_rows == [(3, 7, database)]
        assert session.query(sql).result_rows == [(3, 3, database)]
    with pytest.raises(DatabaseError):
        client.query("SELECT * FROM own")


def test_a_session_serves_one_request_at_a_time(target, database):
    with (
        target.client(session_id=database) as first,
        target.client(autogenerate_session_id=False) as second,
    ):
        running = threading.Thread(target=lambda: first.query(f"SELECT sleep(1), '{database}'"))
        running.start()
        target.wait_for_running(f"SELECT sleep(1), '{database}'", 1)
        with pytest.raises(DatabaseError) as error:
            second.query("SELECT 1", settings={"session_id": database})
        running.join()
        assert (error.value.code, error.value.name) == (373, "SESSION_IS_LOCKED")
        assert second.query("SELECT 1", settings={"session_id": database}).result_rows == [(1,)]


def test_external_data_lives_as_long_as_its_query(target, database):
    external = ExternalData(
        file_name="ext.csv", data=b"1,a\n2,b\n", fmt="CSV", structure="id UInt32, v String"
    )
    external.add_file(file_name="other.tsv", data=b"5\n", fmt="TSV", types="UInt8")
    with target.client(session_id=database) as client:
        for _ in range(2):
            sql = "SELECT id, v, _1 FROM ext, other ORDER BY id"
            assert client.query(sql, external_data=external).result_rows == [(1, "a", 5), (2, "b", 5)]
        with pytest.raises(DatabaseError):
            client.query("SELECT * FROM ext")


def test_materialised_views_and_replacing_tables_behave_as_on_a_server(client):
    client.command("CREATE TABLE raw (id UInt8, v UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY id")
    client.command("CREATE TABLE total (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple()")
    client.command("CREATE MATERIALIZED VIEW mv TO total AS SELECT count() AS n FROM raw")
    client.insert("raw", [[1, 1], [2, 1]], column_names=["id", "v"])
    client.insert("raw", [[1, 2]], column_names=["id", "v"])
    assert client.query("SELECT id, v FROM raw FINAL ORDER BY id").result_rows == [(1, 2), (2, 1)]
    assert client.query("SELECT sum(n) FROM total").result_rows == [(3,)]
