"""The life of the process: it starts or says why not, stops when told, and keeps what it has acknowledged."""

import http.client
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

ROOT = Path(__file__).parents[3]
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


def test_what_was_acknowledged_outlives_a_kill(start_server):
    server = start_server()
    with server.client() as client:
        client.command("CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id")
        client.insert("kept", [[number] for number in range(1000)], column_names=["id"])
    server.kill()
    again = start_server()
    with again.client() as client:
        assert client.query("SELECT count(), sum(id) FROM kept").result_rows == [(1000, 499500)]


def test_it_stops_within_three_seconds_whatever_runs_and_starts_again(
    start_server, wait_for_running, tmp_path
):
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
        wait_for_running(client, "SELECT sleep(3)", 1)
    asked_s = time.monotonic()
    code = server.stop()
    assert (code, time.monotonic() - asked_s < 3) == (0, True)
    busy.close()
    with start_server().client() as client:
        assert client.command("SELECT id FROM kept") == 1
