"""How an HTTP request becomes a job, and which requests do not."""

import gzip

import pytest

from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.job import ExternalTable, Job, SessionWish
from services.local.clickhouse.request import Request, read_job, read_parameters
from services.local.clickhouse.statements import Insert, Query


def job_of(parameters=None, headers=None, body=b"", method="POST"):
    request = Request(method=method, parameters=parameters or {}, headers=headers or {}, body=body)
    return read_job(request, "id", "mark")


def test_settings_parameters_database_and_session_are_told_apart():
    parameters = read_parameters(
        b"database=d&param_a=1%20+2&max_threads=3&session_id=s&session_timeout=90&session_check=1"
        b"&query_id=q&wait_end_of_query=1&default_format=CSV&query=SELECT+1&user=u&password="
    )
    assert job_of(parameters) == Job(
        mark="mark",
        query_id="id",
        statement=Query(sql=b"SELECT 1", keyword="SELECT", format=None),
        database="d",
        settings={"max_threads": "3"},
        parameters={"a": "1  2"},
        external=(),
        default_format="CSV",
        read_only=False,
        waits_for_end=True,
        session=SessionWish(session_id="s", timeout_s=90.0, must_exist=True),
    )


def test_a_bare_request_brings_nothing_along():
    assert job_of(body=b"SELECT 1", method="GET") == Job(
        mark="mark",
        query_id="id",
        statement=Query(sql=b"SELECT 1", keyword="SELECT", format=None),
        database="",
        settings={},
        parameters={},
        external=(),
        default_format=None,
        read_only=True,
        waits_for_end=False,
        session=None,
    )


def test_database_and_format_may_come_in_headers():
    job = job_of(headers={"x-clickhouse-database": "d", "x-clickhouse-format": "JSON"}, body=b"SELECT 1")
    assert (job.database, job.result_format) == ("d", "JSON")


def test_external_tables_and_fields_come_out_of_a_form():
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT {p:Int8}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_p"\r\n\r\n7\r\n'
        b'--b\r\nContent-Disposition: form-data; name="t"; filename="t.csv"\r\n\r\n1,2\n\r\n'
        b'--b\r\nContent-Disposition: form-data; name="u"; filename="u"\r\n\r\n1\r\n--b--'
    )
    job = job_of(
        {"t_format": "CSV", "t_types": "Int8,Map(String, Int8)", "u_structure": "a Int8", "max_threads": "1"},
        {"content-type": "multipart/form-data; boundary=b"},
        body,
    )
    assert job.external == (
        ExternalTable(name="t", structure="_1 Int8, _2 Map(String, Int8)", format="CSV", data=b"1,2\n"),
        ExternalTable(name="u", structure="a Int8", format="TabSeparated", data=b"1"),
    )
    assert job.statement == Query(sql=b"SELECT {p:Int8}", keyword="SELECT", format=None)
    assert (job.parameters, job.settings) == ({"p": "7"}, {"max_threads": "1"})


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"compress": "1"}, ErrorCode.NOT_IMPLEMENTED),
        ({"decompress": "1"}, ErrorCode.NOT_IMPLEMENTED),
        ({"max_threads = 1, x": "1"}, ErrorCode.UNKNOWN_SETTING),
        ({"param_a b": "1"}, ErrorCode.BAD_ARGUMENTS),
        ({"session_id": "s", "session_timeout": "0"}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_id": "s", "session_timeout": "3601"}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_id": "s", "session_timeout": "soon"}, ErrorCode.INVALID_SESSION_TIMEOUT),
    ],
)
def test_what_cannot_be_meant_is_refused(parameters, code):
    with pytest.raises(QueryFailed) as refusal:
        job_of(parameters, body=b"SELECT 1")
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("sql", "streams"),
    [
        (b"SELECT 1 FORMAT Native", True),
        (b"SELECT 1 FORMAT rowbinary", True),
        (b"SELECT 1 FORMAT JSON", False),
        (b"SELECT 1", True),
        (b"SELECT a, sum(b) FROM t GROUP BY a WITH TOTALS", False),
        (b"SELECT a, sum(b) FROM t GROUP BY a WITH TOTALS FORMAT Native", True),
        (b"SHOW TABLES FORMAT Native", False),
        (b"INSERT INTO t FORMAT Native\n", False),
    ],
)
def test_only_selects_in_formats_without_a_frame_stream(sql, streams):
    assert (job_of(body=sql).joining is not None) is streams


def test_bytes_that_are_no_utf_8_stay_in_the_sql_and_nowhere_else():
    parameters = read_parameters(b"query=SELECT+'%FF\xfe'&param_a=%FF")
    job = job_of(parameters)
    assert (job.statement.sql, job.parameters) == (b"SELECT '\xff\xfe'", {"a": "?"})


def test_a_compressed_body_is_decoded_before_it_is_read():
    job = job_of(headers={"content-encoding": "gzip"}, body=gzip.compress(b"INSERT INTO t FORMAT CSV\n1"))
    assert job.statement == Insert(head="INSERT INTO t", format="CSV", data=b"1")
