"""The ClickHouse under test: what CLICKHOUSE_URL names, or a local stand-in of the suite's own."""

import http.client
import os
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect
import pytest

URL = os.environ.get("CLICKHOUSE_URL", "")
USER = os.environ.get("CLICKHOUSE_USER", "default") if URL else "default"
PASSWORD = os.environ.get("CLICKHOUSE_PASSWORD", "") if URL else ""

WAIT_S_MAX = 30.0
POLL_S = 0.02

stand_in_only = pytest.mark.skipif(
    bool(URL), reason="CLICKHOUSE_URL names a server: this is the stand-in's own"
)


def local_differs(reason: str) -> pytest.MarkDecorator:
    """Mark what the local stand-in is known to do otherwise than a ClickHouse server, which is right."""
    return pytest.mark.xfail(not URL, reason=reason, strict=True)


class Answer(NamedTuple):
    """What came back for one plain HTTP request; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        """The error code of ClickHouse, 0 without one."""
        return int(self.headers.get("x-clickhouse-exception-code", "0"))


class Target:
    """The address of a server, and the ways to speak to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.is_secure = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (8443 if self.is_secure else 8123)
        self._options = {
            "interface": parts.scheme,
            "host": self.host,
            "port": self.port,
            "username": USER,
            "password": PASSWORD,
        }

    def client(self, **options: Any):
        return clickhouse_connect.get_client(**{**self._options, **options})

    async def async_client(self, **options: Any):
        return await clickhouse_connect.get_async_client(**{**self._options, **options})

    def connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.is_secure else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=WAIT_S_MAX)

    def request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
    ) -> None:
        """Send a request with the account's credentials, unless it brings its own."""
        if "Authorization" not in headers and "user=" not in path:
            headers = {"X_ClickHouse_User": USER, "X_ClickHouse_Key": PASSWORD, **headers}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request and give back what came."""
        connection = self.connection()
        try:
            self.request(connection, method, path, body, **headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def wait_for_running(self, sql: str, count: int) -> None:
        """Wait until as many statements that begin with this text run as are expected."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        pause = threading.Event()
        watch = "SELECT count() FROM system.processes WHERE startsWith(query, {sql:String})"
        with self.client(autogenerate_session_id=False) as client:
            while client.query(watch, parameters={"sql": sql}).result_rows != [(count,)]:
                assert time.monotonic() < deadline_s, f"{sql!r} did not come to run {count} times"
                pause.wait(POLL_S)
