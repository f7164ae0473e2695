"""Runs `tollhouse up` as a person would: a child process on free ports, a data directory of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import clickhouse_connect
import pytest

from services.local.ports import free_ports

ROOT = Path(__file__).parents[2]
READY_S_MAX = 90.0
ROWS_S_MAX = 30.0
FOREIGN = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")


def clean_environ(**extra):
    """The environment without what could configure Tollhouse from outside the test."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}, **extra}


def up_command(*options):
    return [sys.executable, "-m", "services.cli", "up", *map(str, options)]


class Stack:
    """A running `tollhouse up`."""

    def __init__(self, data_dir, *options, environ=None):
        self.data_dir = data_dir
        self.port, self.kafka_port, self.clickhouse_port = free_ports(5), free_ports(1), free_ports(1)
        self._options = options
        self._environ = environ or {}
        self.lines = []
        self.start()

    def start(self):
        argv = up_command(
            *("--port", self.port, "--kafka-port", self.kafka_port),
            *("--clickhouse-port", self.clickhouse_port, "--data-dir", self.data_dir, *self._options),
        )
        self.lines = []
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=clean_environ(**self._environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._said:
            ready = self._said.wait_for(
                lambda: "tollhouse is ready" in self.lines or self.process.poll() is not None, READY_S_MAX
            )
        assert ready and "tollhouse is ready" in self.lines, "\n".join(self.lines)

    def _read(self):
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self.process.wait()
            self._said.notify_all()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/anthropic"

    @property
    def kafka(self):
        return f"127.0.0.1:{self.kafka_port}"

    def rows(self, query, count):
        """Ask ClickHouse until there are `count` rows or the time is up; gives what it said last."""
        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=self.clickhouse_port, autogenerate_session_id=False
        )
        deadline = time.monotonic() + ROWS_S_MAX
        found = client.query(query).result_rows
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(0.1)
            found = client.query(query).result_rows
        return found

    def pid_of(self, child):
        """The process id of one of the stack's children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in map(int, children):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if child.encode() in argv or f"services.local.{child}".encode() in argv:
                return pid
        raise AssertionError(f"no child {child}")

    def stop(self):
        """Ask it to stop and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(READY_S_MAX)


@pytest.fixture(scope="session")
def simulated_stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("stack"), "--simulate")
    yield stack
    stack.stop()
