"""What is recognised in a request's SQL, and that nothing in it is ever changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.statements import STATEMENT_BYTES_MAX, Insert, Query, read_statement


@pytest.mark.parametrize(
    ("sql", "head", "input_format", "data"),
    [
        (b"INSERT INTO t FORMAT Native\nrows", "INSERT INTO t", "Native", b"rows"),
        (b"insert into t format CSV 1,2", "insert into t", "CSV", b"1,2"),
        (b"INSERT INTO t (a, `b c`) FORMAT CSV\r\n1,2\n", "INSERT INTO t (a, `b c`)", "CSV", b"1,2\n"),
        (b"INSERT INTO t FORMAT TSV;\n\n1", "INSERT INTO t", "TSV", b"\n1"),
        (
            b"/* A */ INSERT INTO t -- FORMAT\n FORMAT Arrow\nA",
            "/* A */ INSERT INTO t -- FORMAT\n",
            "Arrow",
            b"A",
        ),
        (b"INSERT INTO d.format FORMAT RowBinary\n\xff", "INSERT INTO d.format", "RowBinary", b"\xff"),
        (
            b"INSERT INTO FUNCTION null('a Int8') FORMAT CSV\n1",
            "INSERT INTO FUNCTION null('a Int8')",
            "CSV",
            b"1",
        ),
        ("INSERT INTO `größe` FORMAT CSV\n1".encode(), "INSERT INTO `größe`", "CSV", b"1"),
        (b"INSERT INTO t FORMAT CSV", "INSERT INTO t", "CSV", b""),
    ],
)
def test_an_insert_is_split_into_statement_format_and_data(sql, head, input_format, data):
    assert read_statement(b"", sql) == Insert(head=head, format=input_format, data=data)


def test_the_settings_of_an_insert_are_told_apart_from_what_stands_before_them():
    sql = b"INSERT INTO t SETTINGS insert_deduplication_token = 'FORMAT x' FORMAT Native\n\x00"
    settings = "SETTINGS insert_deduplication_token = 'FORMAT x'"
    assert read_statement(b"", sql) == Insert(
        head="INSERT INTO t", settings=settings, format="Native", data=b"\x00"
    )


@pytest.mark.parametrize(
    ("sql", "keyword", "result_format"),
    [
        (b"SELECT 1", "SELECT", None),
        (b"  -- why\n select 1 format JSON", "SELECT", "JSON"),
        (b"SELECT 1 FORMAT Native;", "SELECT", "Native"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "SELECT", "JSON"),
        (b"SELECT 1\n SETTINGS max_threads=1\n FORMAT TSV", "SELECT", "TSV"),
        (b"SELECT format('{}', 1)", "SELECT", None),
        (b"SELECT a AS format FROM t", "SELECT", None),
        (b"SELECT a format FROM settings", "SELECT", None),
        (b"SELECT ' FORMAT CSV'", "SELECT", None),
        (b"SELECT (SELECT 1 FORMAT CSV)", "SELECT", None),
        (b"SELECT 1 /* FORMAT CSV */", "SELECT", None),
        (b"(SELECT 1) FORMAT CSV", "(", "CSV"),
        (b"WITH 1 AS x SELECT x FORMAT RowBinary", "WITH", "RowBinary"),
        (b"INSERT INTO t VALUES (1)", "INSERT", None),
        (b"INSERT INTO t SELECT * FROM input('a Int8') FORMAT CSV\n1", "INSERT", None),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", "CREATE", None),
        (b"", "", None),
        (b"-- nothing", "", None),
    ],
)
def test_any_other_statement_is_kept_whole(sql, keyword, result_format):
    assert read_statement(b"", sql) == Query(sql=sql, keyword=keyword, format=result_format)


def test_a_statement_in_the_url_takes_its_data_from_the_body():
    assert read_statement(b"INSERT INTO t FORMAT CSV", b"\n1") == Insert(
        head="INSERT INTO t", format="CSV", data=b"\n1"
    )
    assert read_statement(b"SELECT 1", b"+ 1").sql == b"SELECT 1\n+ 1"
    assert read_statement(b"INSERT INTO t", b"FORMAT CSV\n1").data == b"1"


def test_a_statement_beyond_the_bound_is_refused_but_not_the_data_of_an_insert():
    padding = b"x" * STATEMENT_BYTES_MAX
    assert len(read_statement(b"", b"INSERT INTO t FORMAT CSV\n" + padding).data) == STATEMENT_BYTES_MAX
    with pytest.raises(QueryFailed) as refusal:
        read_statement(b"", b"SELECT '" + padding + b"'")
    assert refusal.value.code == ErrorCode.QUERY_IS_TOO_LARGE


@given(st.binary())
def test_the_data_of_an_insert_is_taken_byte_for_byte(data):
    assert read_statement(b"", b"INSERT INTO t FORMAT Native\n" + data).data == data


@given(st.one_of(st.binary(), st.text(alphabet="INSERT FORMAT'`\"();./*-#\\\n,ab1").map(str.encode)))
def test_no_input_is_too_odd_to_be_read(sql):
    statement = read_statement(b"", sql)
    if isinstance(statement, Query):
        assert statement.sql == sql
    else:
        assert sql.endswith(statement.data)
