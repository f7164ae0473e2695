"""The life of the process: it starts or says why not, stops when told, and keeps what it has acknowledged."""

import http.client
import subprocess
import sys
import time

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from services.local.ports import free_ports
from tests.integration.local_clickhouse.server import ROOT
from tests.integration.local_clickhouse.target import stand_in_only

pytestmark = stand_in_only

RUN = "from services.local.clickhouse.__main__ import main; main()"


def refusal(*options, before=""):
    """Try to start a server; give back its exit code and what it said."""
    command = [sys.executable, "-c", f"{before}\n{RUN}", *options]
    tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert tried.stdout == ""
    return tried.returncode, tried.stderr


def test_a_port_in_use_is_one_sentence(server, tmp_path):
    code, said = refusal("--data-dir", str(tmp_path), "--port", str(server.port))
    sentence = (
        f"The local ClickHouse cannot listen on 127.0.0.1:{server.port}: [Errno 98] Address already in use."
    )
    assert (code, said) == (2, f"{sentence}\n")


def test_a_directory_in_use_is_one_sentence(server):
    assert refusal("--data-dir", str(server.data_dir), "--port", "0") == (
        2,
        f"The data directory {server.data_dir} is in use by another process.\n",
    )


def test_an_address_beyond_this_machine_is_refused(tmp_path):
    code, said = refusal("--data-dir", str(tmp_path), "--host", "0.0.0.0")
    assert (code, said.count("\n"), "this machine only" in said) == (2, 1, True)


def test_a_missing_extra_is_one_sentence(tmp_path):
    missing = "import sys; sys.modules['chdb'] = None"
    assert refusal("--data-dir", str(tmp_path), "--port", "0", before=missing) == (
        2,
        "The local ClickHouse needs chDB and lz4: run pip install 'tollhouse[local]'.\n",
    )


def test_nobody_can_connect_before_the_engine_serves(tmp_path):
    """Otherwise a probe would find the port open and its question unanswered."""
    port = free_ports(1)
    knock = f"socket.socket().connect_ex(('127.0.0.1', {port}))"
    engine_starts = (
        "import chdb, errno, socket\n"
        f"def connect(target): raise RuntimeError(errno.errorcode.get({knock}, 'connected'))\n"
        "chdb.connect = connect"
    )
    data_dir = tmp_path / "data"
    assert refusal("--data-dir", str(data_dir), "--port", str(port), before=engine_starts) == (
        2,
        f"chDB cannot open the data directory {data_dir}: ECONNREFUSED\n",
    )


def test_what_was_acknowledged_outlives_a_kill(start_server):
    server = start_server()
    with server.client() as client:
        client.command("CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id")
        client.insert("kept", [[number] for number in range(1000)], column_names=["id"])
    server.kill()
    again = start_server()
    with again.client() as client:
        assert client.query("SELECT count(), sum(id) FROM kept").result_rows == [(1000, 499500)]


def test_it_stops_within_three_seconds_whatever_runs_and_serves_another_user_next(start_server, tmp_path):
    password_file = tmp_path / "password"
    password_file.write_text("secret\n")
    server = start_server("--user", "ann", "--password-file", str(password_file))
    with pytest.raises(DatabaseError) as error:
        server.client()
    assert error.value.name == "AUTHENTICATION_FAILED"
    with server.client(username="ann", password="secret", autogenerate_session_id=False) as client:
        client.command("CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id")
        client.insert("kept", [[1]], column_names=["id"])
        busy = http.client.HTTPConnection("127.0.0.1", server.port)
        busy.request("POST", "/?user=ann&password=secret", "SELECT sleep(3)")
        running = "SELECT count() FROM system.processes WHERE startsWith(query, 'SELECT sleep(3)')"
        deadline_s = time.monotonic() + 30
        while client.command(running) != 1:
            assert time.monotonic() < deadline_s
    asked_s = time.monotonic()
    code = server.stop()
    assert (code, time.monotonic() - asked_s < 3) == (0, True)
    busy.close()
    again = start_server(CLICKHOUSE_USER="bob", CLICKHOUSE_PASSWORD="other")
    with again.client(username="bob", password="other") as client:
        assert client.command("SELECT id FROM kept") == 1
    with pytest.raises(DatabaseError):
        again.client(username="ann", password="secret")
