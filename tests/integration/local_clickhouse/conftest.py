"""One server process for all tests of this folder, and one database for each of them."""

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import clickhouse_connect
import pytest

ROOT = Path(__file__).parents[3]
WAIT_S_MAX = 30.0


class LocalClickHouse:
    """A server process, its port, and the events that it has logged."""

    def __init__(self, data_dir, *options):
        self.data_dir = data_dir
        self._logged = threading.Condition()
        self._events = []
        command = [
            sys.executable,
            "-m",
            "services.local.clickhouse",
            "--data-dir",
            str(data_dir),
            "--port",
            "0",
        ]
        self.process = subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = self.wait_for("local_clickhouse.started")["port"]

    def wait_for(self, event, **fields):
        """Wait until the server has logged an event with these fields."""
        found = []

        def seen():
            found[:] = [
                line for line in self._events if line["event"] == event and fields.items() <= line.items()
            ]
            return found or self.process.poll() is not None

        with self._logged:
            self._logged.wait_for(seen, WAIT_S_MAX)
            assert found, f"{event} was not logged; the server logged {self._events}"
        return found[0]

    def client(self, **options):
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **options)

    def stop(self):
        """Ask the server to stop and tell its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=10)

    def _read(self):
        for line in self.process.stderr:
            with self._logged:
                self._events.append(json.loads(line) if line.startswith("{") else {"event": line})
                self._logged.notify_all()
        self.process.wait()
        with self._logged:
            self._logged.notify_all()


@pytest.fixture
def wait_for_running():
    """Wait until as many statements that begin with this text run as are expected."""

    def wait(client, sql, count):
        deadline_s = time.monotonic() + WAIT_S_MAX
        pause = threading.Event()
        watch = "SELECT count() FROM system.processes WHERE startsWith(query, {sql:String})"
        while client.query(watch, parameters={"sql": sql}).result_rows != [(count,)]:
            assert time.monotonic() < deadline_s, f"{sql!r} did not come to run {count} times"
            pause.wait(0.02)

    return wait


@pytest.fixture
def start_server(tmp_path):
    """Start servers of a test's own; what still runs at its end is killed."""
    servers = []

    def start(*options, data_dir=tmp_path / "clickhouse"):
        servers.append(LocalClickHouse(data_dir, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = LocalClickHouse(tmp_path_factory.mktemp("local_clickhouse"))
    yield server
    server.kill()


@pytest.fixture
def database(server):
    name = f"test_{uuid.uuid4().hex}"
    with server.client(autogenerate_session_id=False) as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE {name}")


@pytest.fixture
def client(server, database):
    with server.client(database=database, autogenerate_session_id=False) as client:
        yield client
