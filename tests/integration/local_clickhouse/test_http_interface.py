"""The parts of the HTTP interface that clickhouse-connect does not show."""

import gzip
import http.client
import json
import socket

import lz4.frame
import pytest

from services.local.clickhouse.request import BODY_BYTES_MAX

# An array of 8-byte numbers in one piece: refused before a byte of it is touched.
MORE_THAN_THE_MEMORY_CAP = b"SELECT length(range(number + 400000000)) FROM numbers(1)"


@pytest.fixture
def ask(server):
    """Send one request and give back status, headers and body."""

    def ask(method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        answer = (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
        connection.close()
        return answer

    return ask


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/ping", 200, b"Ok.\n"),
        ("GET", "/replicas_status", 200, b"Ok.\n"),
        ("GET", "/", 200, b"Ok.\n"),
        ("GET", "/?query=SELECT%201", 200, b"1\n"),
        ("GET", "/play", 404, b"There is no handle /play\n"),
    ],
)
def test_paths_answer_as_on_a_server(ask, method, path, status, body):
    answered_status, _, answered_body = ask(method, path)
    assert (answered_status, answered_body) == (status, body)


def test_an_answer_tells_its_format_length_time_zone_and_summary(ask):
    status, headers, body = ask("POST", "/?query_id=q1", b"SELECT number FROM numbers(3)")
    summary = json.loads(headers.pop("x-clickhouse-summary"))
    headers.pop("date")
    assert (status, body) == (200, b"0\n1\n2\n")
    assert headers == {
        "content-type": "text/tab-separated-values; charset=UTF-8",
        "content-length": "6",
        "x-clickhouse-format": "TabSeparated",
        "x-clickhouse-query-id": "q1",
        "x-clickhouse-server-display-name": "tollhouse-local",
        "x-clickhouse-timezone": "Etc/UTC",
    }
    assert (summary["result_rows"], summary["read_rows"], summary["result_bytes"]) == ("3", "3", "6")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/?query=CREATE%20TABLE%20t%20(a%20Int8)%20ENGINE%20Memory", None, 500, 164),
        ("GET", "/?query=INSERT%20INTO%20t%20FORMAT%20CSV", None, 500, 164),
        ("POST", "/", b"SELECT 1; SELECT 2", 400, 62),
        ("POST", "/", b"1 + 1", 400, 62),
        ("POST", "/?no_such_setting=1", b"SELECT 1", 404, 115),
        ("POST", "/?session_id=s&session_check=1", b"SELECT 1", 500, 372),
        ("POST", "/?user=nobody", b"SELECT 1", 403, 516),
        ("POST", "/?compress=1", b"SELECT 1", 501, 48),
        ("POST", "/?function_range_max_elements_in_block=1000000000", MORE_THAN_THE_MEMORY_CAP, 500, 241),
        ("POST", "/", b"SELECT number FROM numbers(100000000) FORMAT JSONEachRow", 500, 396),
    ],
)
def test_errors_have_status_code_and_text(ask, method, path, body, status, code):
    answered_status, headers, text = ask(method, path, body)
    assert (answered_status, headers["x-clickhouse-exception-code"]) == (status, str(code))
    assert text.startswith(b"Code: %d. DB::Exception: " % code)


def test_a_web_page_is_refused(ask):
    assert ask("POST", "/", b"SELECT 1", Origin="https://page.example")[0] == 403
    assert ask("POST", "/", b"SELECT 1", Host="page.example")[0] == 403


def test_a_body_beyond_the_bound_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_small_body_that_decodes_beyond_the_bound_is_refused(ask):
    body = gzip.compress(bytes(BODY_BYTES_MAX + 1), compresslevel=1)
    status, headers, _ = ask("POST", "/", body, Content_Encoding="gzip")
    assert (status, headers["x-clickhouse-exception-code"]) == (413, "229")


def test_results_are_encoded_when_the_client_asks_for_it(ask):
    sql, accepted = b"SELECT number FROM numbers(5)", {"Accept_Encoding": "lz4, gzip"}
    status, headers, body = ask("POST", "/?enable_http_compression=1", sql, **accepted)
    assert (status, headers["content-encoding"]) == (200, "lz4")
    assert lz4.frame.decompress(body) == b"0\n1\n2\n3\n4\n"
    assert "content-encoding" not in ask("POST", "/", sql, **accepted)[1]


def test_a_client_that_leaves_ends_its_query(server, database, wait_for_running):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    sql = "SELECT sum(sleepEachRow(0.01)) FROM numbers(100000) SETTINGS max_block_size = 1"
    connection.request("POST", f"/?query_id={database}", sql)
    with server.client(autogenerate_session_id=False) as client:
        wait_for_running(client, sql, 1)
        connection.close()
        server.wait_for("local_clickhouse.query_killed", query_id=database)
        wait_for_running(client, sql, 0)
