"""Starts local ClickHouse processes for tests and benchmarks, and waits for what they log."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import clickhouse_connect

ROOT = Path(__file__).parents[3]
WAIT_S_MAX = 30.0
STOP_S_MAX = 10.0


# The account is the test's to choose, whatever this machine is configured for.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}


class LocalClickHouse:
    """A server process, its port, and the events that it has logged."""

    def __init__(self, data_dir: Path, *options: str, **account: str) -> None:
        self.data_dir = data_dir
        self._logged = threading.Condition()
        self._events: list[dict[str, Any]] = []
        command = [
            sys.executable,
            "-m",
            "services.local.clickhouse",
            "--data-dir",
            str(data_dir),
            "--port",
            "0",
        ]
        self.process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env={**ENVIRON, **account}, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        self.port: int = self.wait_for("local_clickhouse.started")["port"]

    def wait_for(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait until the server has logged an event with these fields."""
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [
                line for line in self._events if line["event"] == event and fields.items() <= line.items()
            ]
            return bool(found) or self.process.poll() is not None

        with self._logged:
            self._logged.wait_for(seen, WAIT_S_MAX)
            assert found, f"{event} was not logged; the server logged {self._events}"
        return found[0]

    def client(self, **options: Any):
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **options)

    def stop(self) -> int:
        """Ask the server to stop and tell its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_S_MAX)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=STOP_S_MAX)

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            with self._logged:
                self._events.append(json.loads(line) if line.startswith("{") else {"event": line})
                self._logged.notify_all()
        self.process.wait()
        with self._logged:
            self._logged.notify_all()
