"""ClickHouse's HTTP interface as any client may use it: curl, a form, a driver of another language."""

import gzip
import http.client
import json
import struct
import uuid
from base64 import b64encode
from urllib.parse import quote, urlencode

import lz4.frame
import pytest

from tests.integration.local_clickhouse.target import PASSWORD, USER, local_differs

LONG = "SELECT sum(sleepEachRow(0.01)) FROM numbers(100000) SETTINGS max_block_size = 1"


@pytest.fixture
def ask(target):
    return target.ask


def url(**parameters):
    return f"/?{urlencode(parameters)}"


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/ping", 200, b"Ok.\n"),
        ("HEAD", "/ping", 200, b""),
        ("GET", "/replicas_status", 200, b"Ok.\n"),
        ("GET", "/", 200, b"Ok.\n"),
        ("GET", "/?query=SELECT%201", 200, b"1\n"),
    ],
)
def test_paths_answer_as_on_a_server(ask, method, path, status, body):
    answer = ask(method, path)
    assert (answer.status, answer.body) == (status, body)


def test_an_answer_tells_its_format_query_id_time_zone_and_summary(ask):
    query_id = uuid.uuid4().hex
    sql = b"SELECT number FROM numbers(3)"
    status, headers, body = ask("POST", url(query_id=query_id, wait_end_of_query=1), sql)
    assert (status, body) == (200, b"0\n1\n2\n")
    assert headers["content-type"] == "text/tab-separated-values; charset=UTF-8"
    assert headers["x-clickhouse-format"] == "TabSeparated"
    assert headers["x-clickhouse-query-id"] == query_id
    assert (
        headers["x-clickhouse-timezone"] == ask("GET", url(query="SELECT timezone()")).body.decode().strip()
    )
    summary = json.loads(headers["x-clickhouse-summary"])
    assert (summary["result_rows"], summary["read_rows"]) == ("3", "3")


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("GET", "/?query=CREATE%20TABLE%20t%20(a%20Int8)%20ENGINE%20Memory", None, 164),
        ("GET", "/?query=INSERT%20INTO%20t%20FORMAT%20CSV", None, 164),
        ("POST", "/", b"SELECT 1; SELECT 2", 62),
        ("POST", "/", b"1 + 1", 62),
        ("POST", "/?no_such_setting=1", b"SELECT 1", 115),
        ("POST", "/?max_threads=many", b"SELECT 1", 27),
        ("POST", "/?session_id=s&session_check=1", b"SELECT 1", 372),
        ("POST", "/?session_id=s&session_timeout=soon", b"SELECT 1", 374),
        ("POST", "/", b"SELECT {p:Int8}", 456),
        ("POST", "/?param_p=x", b"SELECT {p:Int8}", 457),
        ("POST", "/?max_memory_usage=1000000", b"SELECT groupArray(number) FROM numbers(10000000)", 241),
        ("POST", "/?max_execution_time=0.2", LONG.encode(), 159),
    ],
)
def test_errors_have_a_code_and_a_text(ask, method, path, body, code):
    answer = ask(method, path, body)
    assert (answer.status >= 400, answer.code) == (True, code)
    assert answer.body.startswith(b"Code: %d. DB::Exception: " % code)


@pytest.mark.parametrize(
    ("sql", "status"),
    [(b"SELECT * FROM nothing_here", 404), (b"SELEC 1", 400), (b"SELECT throwIf(1)", 500)],
)
def test_errors_have_the_status_of_their_kind(ask, sql, status):
    assert ask("POST", "/", sql).status == status


WRONG = {"user": USER, "password": f"not {PASSWORD}"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (url(**WRONG), {}),
        (url(user="nobody"), {}),
        ("/", {"X_ClickHouse_User": USER, "X_ClickHouse_Key": WRONG["password"]}),
        ("/", {"Authorization": "Basic " + b64encode(f"{USER}:{WRONG['password']}".encode()).decode()}),
    ],
)
def test_wrong_credentials_are_refused_wherever_they_stand(ask, path, headers):
    answer = ask("POST", path, b"SELECT 1", **headers)
    assert (answer.status, answer.code) == (403, 516)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (url(user=USER, password=PASSWORD), {}),
        ("/", {"X_ClickHouse_User": USER, "X_ClickHouse_Key": PASSWORD}),
        ("/", {"Authorization": "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()}),
    ],
)
def test_credentials_are_taken_wherever_clients_put_them(ask, path, headers):
    assert ask("POST", path, b"SELECT 1", **headers).body == b"1\n"


def test_the_database_comes_in_the_url_or_in_a_header_and_must_exist(ask, database):
    sql = b"SELECT currentDatabase()"
    assert ask("POST", url(database=database), sql).body.decode() == f"{database}\n"
    assert ask("POST", "/", sql, X_ClickHouse_Database=database).body.decode() == f"{database}\n"
    missing = ask("POST", "/?database=nothing_here", sql)
    assert (missing.status, missing.code) == (404, 81)


def test_settings_and_parameters_in_the_url_last_for_their_request(ask):
    sql = "SELECT getSetting('max_block_size'), {a:String}, {b:Array(UInt8)}"
    assert (
        ask("POST", url(max_block_size=77, param_a="x'y", param_b="[1,2]"), sql).body == b"77\tx\\'y\t[1,2]\n"
    )
    assert ask("POST", "/", "SELECT getSetting('max_block_size') = 77").body == b"0\n"


def test_a_session_in_the_url_keeps_its_tables_until_it_ends(ask):
    session = uuid.uuid4().hex
    ask("POST", url(session_id=session), "CREATE TEMPORARY TABLE own (a UInt8)")
    ask("POST", url(session_id=session, query="INSERT INTO own FORMAT CSV"), "1\n2\n")
    checked = url(session_id=session, session_check=1, session_timeout=1)
    assert ask("POST", checked, "SELECT sum(a) FROM own").body == b"3\n"
    assert ask("POST", "/", "SELECT sum(a) FROM own").code == 60


ROWS = b"1\tx\n2\ty\n"
BINARY_ROWS = b"".join(
    struct.pack("<Q", number) + bytes([len(text)]) + text for number, text in ((1, b"x"), (2, b"y"))
)


@pytest.mark.parametrize(
    ("input_format", "data"),
    [
        ("CSV", b"1,x\n2,y\n"),
        ("CSVWithNames", b"model,id\nx,1\ny,2\n"),
        ("TabSeparated", ROWS),
        ("JSONEachRow", b'{"id": 1, "model": "x"}\n{"model": "y", "id": 2}\n'),
        ("JSONCompactEachRow", b'[1, "x"]\n[2, "y"]\n'),
        ("RowBinary", BINARY_ROWS),
        ("Values", b"(1, 'x'), (2, 'y')"),
    ],
)
@pytest.mark.parametrize(
    "coded",
    [
        ("", bytes),
        ("gzip", gzip.compress),
        ("lz4", lambda data: lz4.frame.compress(data[:7]) + lz4.frame.compress(data[7:])),
    ],
    ids=["plain", "gzip", "lz4"],
)
def test_inserts_are_taken_in_any_format_and_coding(ask, database, table, input_format, data, coded):
    coding, encode = coded
    headers = {"Content_Encoding": coding} if coding else {}
    sql = f"INSERT INTO {table} (id, model) FORMAT {input_format}"
    for path, body in (
        (url(database=database, query=sql), data),
        (url(database=database), sql.encode() + b"\n" + data),
    ):
        ask("POST", url(database=database), f"TRUNCATE TABLE {table}")
        answer = ask("POST", path, encode(body), **headers)
        assert (answer.status, answer.body) == (200, b"")
        assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "2"
        select = f"SELECT id, model FROM {table} ORDER BY id"
        assert ask("POST", url(database=database), select).body == ROWS


def test_an_insert_in_chunks_of_unknown_length_is_taken(ask, database, table):
    path = url(database=database, query=f"INSERT INTO {table} (id) FORMAT CSV")
    assert ask("POST", path, iter([b"1\n2", b"2\n", b"3\n"])).status == 200
    assert ask("POST", url(database=database), f"SELECT sum(id) FROM {table}").body == b"26\n"


def test_a_form_brings_the_query_its_parameters_and_tables(ask):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT sum(a) + {p:UInt8} FROM ext\r\n'
        b'--b\r\nContent-Disposition: form-data; name="param_p"\r\n\r\n7\r\n'
        b'--b\r\nContent-Disposition: form-data; name="ext"; filename="e"\r\n\r\n1\n2\n\r\n--b--\r\n'
    )
    answer = ask("POST", url(ext_structure="a UInt8"), body, Content_Type="multipart/form-data; boundary=b")
    assert answer.body == b"10\n"


@pytest.mark.parametrize(
    ("result_format", "first", "last"),
    [
        ("TabSeparated", b"0\tx y\n", b"4999999\tx y\n"),
        ("TSVWithNames", b"n\ts\n0\tx y\n", b"4999999\tx y\n"),
        ("CSV", b'0,"x y"\n', b'4999999,"x y"\n'),
        ("CSVWithNames", b'"n","s"\n0,"x y"\n', b'4999999,"x y"\n'),
        ("JSONEachRow", b'{"n":0,"s":"x y"}\n', b'{"n":4999999,"s":"x y"}\n'),
    ],
)
def test_lines_of_any_number_are_sent_with_one_header(target, result_format, first, last):
    """Five million rows: beyond what a server holds of a result before it sends any."""
    connection = target.connection()
    sql = f"SELECT number AS n, 'x y' AS s FROM numbers(5000000) FORMAT {result_format}"
    target.request(connection, "POST", "/?output_format_json_quote_64bit_integers=0", sql)
    response = connection.getresponse()
    beginning = piece = response.read(1_000_000)
    lines = piece.count(b"\n")
    while piece:
        ending = piece
        piece = response.read(1_000_000)
        lines += piece.count(b"\n")
    connection.close()
    assert beginning.startswith(first)
    assert ending.endswith(last)
    assert lines == 5_000_000 + ("Names" in result_format)


@pytest.mark.parametrize("result_format", ["TSVWithNames", "CSVWithNames"])
def test_a_result_without_rows_has_its_header_all_the_same(ask, result_format):
    body = ask("POST", "/", f"SELECT 1 AS a, 2 AS b WHERE 0 FORMAT {result_format}").body
    assert body.replace(b'"', b"").replace(b",", b"\t") == b"a\tb\n"


def test_totals_follow_behind_the_rows(ask):
    sql = "SELECT number % 2 AS k, count() FROM numbers(5) GROUP BY k WITH TOTALS ORDER BY k"
    assert ask("POST", "/", sql).body == b"0\t3\n1\t2\n\n0\t5\n"


def test_results_are_encoded_when_the_client_asks_for_it(ask):
    sql, accepted = b"SELECT number FROM numbers(5)", {"Accept_Encoding": "lz4, gzip"}
    status, headers, body = ask("POST", "/?enable_http_compression=1", sql, **accepted)
    assert (status, headers["content-encoding"]) == (200, "lz4")
    assert lz4.frame.decompress(body) == b"0\n1\n2\n3\n4\n"
    assert "content-encoding" not in ask("POST", "/", sql, **accepted).headers


def test_a_client_that_leaves_ends_its_query(target):
    sql = f"/* {uuid.uuid4().hex} */ {LONG}"
    connection = target.connection()
    target.request(connection, "POST", "/?cancel_http_readonly_queries_on_client_close=1&readonly=2", sql)
    target.wait_for_running(sql, 1)
    connection.close()
    target.wait_for_running(sql, 0)


@pytest.fixture
def running(target):
    """A statement that runs until it is killed: its query id, its SQL, the connection that waits for it."""
    query_id = f"it-{uuid.uuid4().hex}"
    sql = f"/* {query_id} */ {LONG}"
    connection = target.connection()
    target.request(connection, "POST", url(query_id=query_id), sql)
    target.wait_for_running(sql, 1)
    yield query_id, sql, connection
    connection.close()


@pytest.mark.parametrize("how", ["SYNC", "ASYNC"])
def test_a_query_is_killed_by_the_id_that_its_client_gave_it(target, ask, running, how):
    query_id, sql, connection = running
    assert ask("POST", "/", f"KILL QUERY WHERE query_id = '{query_id}' {how}").status == 200
    response = connection.getresponse()
    assert (response.status, response.getheader("x-clickhouse-exception-code")) == (500, "394")
    target.wait_for_running(sql, 0)


def test_a_query_id_is_used_once_at_a_time(ask, running):
    query_id, _, _ = running
    assert ask("POST", url(query_id=query_id), "SELECT 1").code == 216
    ask("POST", "/", f"KILL QUERY WHERE query_id IN ('{query_id}', 'another') SYNC")


@local_differs("the embedded engine gives every statement an id of its own")
def test_running_statements_are_listed_with_their_clients_ids(ask):
    sql = "SELECT count() FROM system.processes WHERE query_id = 'listed'"
    assert ask("POST", url(query_id="listed"), sql).body == b"1\n"


@local_differs("the time zone of a DateTime does not reach the client")
def test_a_datetime_keeps_its_time_zone(ask):
    body = ask("POST", "/", "SELECT toDateTime(0, 'America/New_York') AS at FORMAT Native").body
    assert b"DateTime('America/New_York')" in body


@local_differs("there is no log of queries")
def test_finished_queries_are_in_the_query_log(ask):
    ask("POST", "/", "SYSTEM FLUSH LOGS")
    assert ask("POST", "/", "SELECT count() > 0 FROM system.query_log").body == b"1\n"


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"\x04\x22\x4d\x18", {"Content_Encoding": "lz4"}, None),
        (gzip.compress(b"SELECT 1", mtime=0)[:-9], {"Content_Encoding": "gzip"}, None),
        (b"not a form", {"Content_Type": "multipart/form-data; boundary=b"}, None),
        (b"\xff\xfe\x00", {}, 62),
        (b"-- nothing", {}, 62),
        (b"SELECT 'never closed", {}, 62),
    ],
)
def test_a_malformed_body_is_an_error_and_the_server_goes_on(ask, body, headers, code):
    answer = ask("POST", "/", body, **headers)
    assert answer.status >= 400
    assert code in (None, answer.code)
    assert ask("GET", "/ping").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["tls", "no target", "no length"],
)
def test_what_is_not_http_costs_its_connection_only(target, ask, raw):
    connection = target.connection()
    connection.connect()
    connection.sock.sendall(raw)
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    assert response.status == 400
    connection.close()
    assert ask("GET", "/ping").status == 200


def test_bytes_that_are_no_text_come_through_as_they_are(ask):
    assert ask("POST", "/?query=SELECT%20hex(%27%FF%27)").body == b"FF\n"
    assert ask("POST", "/", b"SELECT hex('\xff')").body == b"FF\n"


def test_a_repeated_parameter_and_odd_escapes_do_not_break_a_request(ask):
    path = f"/?query={quote('SELECT 1')}&query={quote('SELECT 2')}&&=&%"
    assert ask("GET", path).status in (200, 400, 404)
    assert ask("GET", "/ping").status == 200
