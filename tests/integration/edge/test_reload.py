"""An edge process that reads its configuration again on SIGHUP, with an exchange under way all along."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from services.local.ports import free_ports
from services.runtime.spool.frames import CLOSED, OPENED
from services.runtime.spool.store import Spool
from tests.integration.edge.harness import ScriptedUpstream, exchange, plain_client

ROOT = Path(__file__).parents[3]
FOREIGN = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
WAIT_S_MAX = 60.0
OLD, NEW, UP_OLD, UP_NEW = "sk-master-old", "sk-master-new", "sk-ant-upstream-old", "sk-ant-upstream-new"


class Process:
    """`tollhouse edge` and the lines that it logs."""

    def __init__(self, path):
        environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self._lines = []
        self._is_over = False
        self._said = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "--config", str(path), "edge"],
            cwd=ROOT,
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stderr:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()
        with self._said:
            self._is_over = True
            self._said.notify_all()

    def lines(self, event, count):
        """Wait until an event was logged so often, and give all of it without what no test can know."""
        with self._said:
            assert self._said.wait_for(
                lambda: len(self._found(event)) >= count or self._is_over, WAIT_S_MAX
            ), f"no {count} x {event}"
            assert not self._is_over, "".join(self._lines)
            return [
                {name: line[name] for name in line.keys() - {"timestamp", "service"}}
                for line in self._found(event)
            ]

    def _found(self, event):
        parsed = [json.loads(line) for line in self._lines if line.startswith("{")]
        return [line for line in parsed if line["event"] == event]

    @property
    def output(self):
        with self._said:
            return "".join(self._lines)

    def signal(self, number):
        self._process.send_signal(number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(WAIT_S_MAX)


def answered(upstream, credential, body=b"{}"):
    """Take the next connection, check with what the edge came, and answer it."""
    connection = upstream.accept()
    assert f"x-api-key: {credential}".encode() in connection.request.lower()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    connection.send(b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))
    connection.close()


def asked(port, key):
    with plain_client() as client:
        return exchange(client, "GET", f"http://127.0.0.1:{port}/v1/models", {"x-api-key": key})[
            0
        ].status_code


@pytest.fixture
def upstream():
    scripted = ScriptedUpstream()
    yield scripted
    scripted.close()


def test_keys_change_under_a_running_edge_and_no_exchange_is_lost(tmp_path, upstream):
    port, path = free_ports(1), tmp_path / "tollhouse.yaml"

    def write(master_key, api_key, **more):
        edge = {
            "port": port,
            "master_key": master_key,
            "shutdown_s_max": 1,
            "upstream": {"base_url": upstream.base_url, "api_key": api_key},
            "spool": {"directory": str(tmp_path / "spool")},
        }
        kafka = {"bootstrap_servers": f"127.0.0.1:{free_ports(1)}"}
        path.write_text(json.dumps({"edge": {**edge, **more}, "kafka": kafka}))

    write(OLD, UP_OLD)
    with Process(path) as edge:
        edge.lines("edge.started", 1)
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as held:
            held.sendall(b"GET /v1/models HTTP/1.1\r\nhost: e\r\nx-api-key: %s\r\n\r\n" % OLD.encode())
            under_way = upstream.accept()

            write(NEW, UP_NEW, port=port + 1, disable_end_user_cost_tracking=True)
            edge.signal(signal.SIGHUP)
            (told,) = edge.lines("config.reloaded", 1)
            assert (set(told["changed"]), set(told["needs_restart"]), told["level"]) == (
                {"edge.master_key", "edge.upstream.api_key", "edge.disable_end_user_cost_tracking"},
                {"edge.port", "kafka.bootstrap_servers"},
                "info",
            )
            assert asked(port, OLD) == 503  # with Kafka away nobody can say that it is no virtual key
            answering = threading.Thread(target=answered, args=(upstream, UP_NEW))
            answering.start()
            assert asked(port, NEW) == 200
            answering.join(WAIT_S_MAX)

            path.write_text(json.dumps({"edge": {"master_key": [NEW], "prot": 1}, "rating": {"port": -1}}))
            edge.signal(signal.SIGHUP)
            (refused,) = edge.lines("config.reload_refused", 1)
            assert set(refused["faults"]) == {
                "edge.master_key: Expected `str`, got `array`",
                "edge.prot: unknown setting",
                "rating.port: must lie between 0 and 65535",
            }
            answering = threading.Thread(target=answered, args=(upstream, UP_NEW))
            answering.start()
            assert asked(port, NEW) == 200
            answering.join(WAIT_S_MAX)

            assert UP_OLD.encode() in under_way.request
            under_way.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nheld")
            received = b""
            while not received.endswith(b"held"):
                received += held.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            under_way.close()
        assert not [secret for secret in (OLD, NEW, UP_OLD, UP_NEW) if secret in edge.output]

    # The process was killed: what its clients have seen whole is on disk.
    spool = Spool(next((tmp_path / "spool").glob("0*")), 1 << 30)
    kinds = [entry[2] for entry in spool.read(0, 100)]
    spool.close()
    assert (kinds.count(OPENED), kinds.count(CLOSED)) == (3, 3)
