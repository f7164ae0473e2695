"""What only the stand-in promises: its bounds, its caution, its memory."""

import contextlib
import gzip
import json
import re
import socket
import threading
import uuid
from pathlib import Path

import pytest

from services.local.clickhouse.http import QUERIES_AT_ONCE_MAX
from services.local.clickhouse.protocol import HEAD_BYTES_MAX
from services.local.clickhouse.request import BODY_BYTES_MAX
from tests.integration.local_clickhouse.target import stand_in_only

pytestmark = stand_in_only

# An array of 8-byte numbers in one piece: refused before a byte of it is touched.
MORE_THAN_THE_MEMORY_CAP = b"SELECT length(range(number + 400000000)) FROM numbers(1)"
STREAM_GROWTH_BYTES_MAX = 200_000_000


@pytest.fixture
def ask(target):
    return target.ask


def rss_bytes(pid):
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024


def test_an_answer_has_these_headers_and_no_others(ask):
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
    ("path", "body", "status", "code"),
    [
        ("/?compress=1", b"SELECT 1", 501, 48),
        ("/?function_range_max_elements_in_block=1000000000", MORE_THAN_THE_MEMORY_CAP, 500, 241),
        ("/", b"SELECT number FROM numbers(100000000) FORMAT JSON", 500, 396),
    ],
)
def test_what_it_cannot_do_or_hold_is_refused(ask, path, body, status, code):
    answer = ask("POST", path, body)
    assert (answer.status, answer.code) == (status, code)


def test_a_path_of_a_server_that_it_does_not_have_is_not_found(ask):
    answer = ask("GET", "/play")
    assert (answer.status, answer.body) == (404, b"There is no handle /play\n")


def test_a_web_page_is_refused(ask):
    assert ask("POST", "/", b"SELECT 1", Origin="https://page.example").status == 403
    assert ask("POST", "/", b"SELECT 1", Host="page.example").status == 403


def test_a_body_beyond_the_bound_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_small_body_that_decodes_beyond_the_bound_is_refused(ask):
    body = gzip.compress(bytes(BODY_BYTES_MAX + 1), compresslevel=1)
    answer = ask("POST", "/", body, Content_Encoding="gzip")
    assert (answer.status, answer.code) == (413, 229)


@pytest.mark.parametrize("opening", [b"GET /?query=", b"GET / HTTP/1.1\r\nX-Long: "], ids=["url", "header"])
def test_a_head_that_does_not_end_is_cut(server, ask, opening):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        told = b""
        with contextlib.suppress(ConnectionError):  # it may have hung up before all of it was sent
            connection.sendall(opening + b"1" * 4 * HEAD_BYTES_MAX)
            told = connection.recv(1000)
        assert told[:12] in (b"", b"HTTP/1.1 400")
    assert ask("GET", "/ping").status == 200


@pytest.mark.parametrize(("length", "status"), [(60_000, 200), (70_000, 400)])
def test_a_url_has_up_to_64_kib(ask, length, status):
    assert ask("GET", f"/?query=SELECT%20%27{'x' * length}%27").status == status


def test_a_stream_of_a_gigabyte_takes_no_memory(server, target):
    connection = target.connection()
    sql = "SELECT number, number FROM numbers(64000000) FORMAT RowBinary"
    target.request(connection, "POST", "/", sql)
    response = connection.getresponse()
    before_bytes = most_bytes = rss_bytes(server.process.pid)
    read_bytes = 0
    while piece := response.read(16_000_000):
        read_bytes += len(piece)
        most_bytes = max(most_bytes, rss_bytes(server.process.pid))
    connection.close()
    assert read_bytes == 64_000_000 * 16
    assert most_bytes - before_bytes < STREAM_GROWTH_BYTES_MAX


def test_a_stream_that_is_left_early_frees_its_session(target):
    with target.client(session_id="left-early") as client:
        with client.query_row_block_stream("SELECT number FROM numbers(10000000)") as blocks:
            next(iter(blocks))
        assert client.command("SELECT 1") == 1


def test_a_query_of_a_client_that_left_is_logged(server, target):
    query_id = uuid.uuid4().hex
    sql = f"/* {query_id} */ SELECT sum(sleepEachRow(0.01)) FROM numbers(100000) SETTINGS max_block_size = 1"
    connection = target.connection()
    target.request(connection, "POST", f"/?query_id={query_id}", sql)
    target.wait_for_running(sql, 1)
    connection.close()
    server.wait_for("local_clickhouse.query_killed", query_id=query_id, reason="client_gone")


def test_a_kill_does_not_wait_for_the_queries_that_take_every_thread(target, ask):
    name = f"busy-{uuid.uuid4().hex}"
    sql = "SELECT sum(sleepEachRow(0.01)) FROM numbers(100000) SETTINGS max_block_size = 1"
    codes = []

    def query(number):
        codes.append(ask("POST", f"/?query_id={name}-{number}", f"/* {name} */ {sql}").code)

    threads = [threading.Thread(target=query, args=(number,)) for number in range(QUERIES_AT_ONCE_MAX)]
    with target.client(autogenerate_session_id=False) as watcher:
        for thread in threads[1:]:
            thread.start()
        target.wait_for_running(f"/* {name} */", QUERIES_AT_ONCE_MAX - 1)
        threads[0].start()
        ids = ", ".join(f"'{name}-{number}'" for number in range(QUERIES_AT_ONCE_MAX))
        pause = threading.Event()
        while len(codes) < QUERIES_AT_ONCE_MAX:  # the last one may not have begun at the first kill
            watcher.command(f"KILL QUERY WHERE query_id IN ({ids})")
            pause.wait(0.05)
    for thread in threads:
        thread.join()
    assert codes == [394] * QUERIES_AT_ONCE_MAX


def test_times_are_in_utc_whatever_the_machine(target):
    with target.client() as client:
        assert client.command("SELECT timezone(), toString(toDateTime(0))") == [
            "Etc/UTC",
            "1970-01-01 00:00:00",
        ]


def test_nothing_of_an_insert_is_left_in_shared_memory(ask):
    shared = Path("/dev/shm")
    before = sorted(path.name for path in shared.iterdir() if "tollhouse" in path.name)
    ask("POST", "/?query=INSERT%20INTO%20FUNCTION%20null(%27a%20Int8%27)%20FORMAT%20CSV", b"1\n")
    assert sorted(path.name for path in shared.iterdir() if "tollhouse" in path.name) == before


@pytest.mark.parametrize("method", ["PUT", "OPTIONS"])
def test_other_methods_do_not_harm(ask, method):
    assert ask(method, "/", b"SELECT 1").status < 500
    assert ask("GET", "/ping").status == 200
