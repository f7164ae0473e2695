"""Sends sample traffic through a fresh local stack and holds what ClickHouse says against what it must say.

`make demo` runs it; the exit code is 0 only if every row is there, once, with its exact tokens and cost.
"""

# clickhouse-connect annotates only part of its API.
# pyright: reportUnknownMemberType=false

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import clickhouse_connect
from anthropic import Anthropic, APIStatusError
from anthropic.types import TextBlockParam

from services.local.ports import free_ports

READY_S_MAX = 90.0
ROWS_S_MAX = 30.0
POLL_S = 0.2
STACK_PORTS = 5  # the edge, rating, sink, the simulated API, the batch tracker

# The simulated API counts four characters as a token, so that every figure below can be checked by hand.
CHARS_PER_TOKEN = 4
LONG_SYSTEM: list[TextBlockParam] = [
    {
        "type": "text",
        "text": "toll" * 2000,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
]


class Row(NamedTuple):
    """One usage row as an analyst reads it."""

    scenario: str
    operation: str
    outcome: str
    usage_status: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    thinking_tokens: int
    web_search_requests: int
    cost_status: str
    cost_usd: Decimal


QUERY = """
SELECT tags[1], operation, outcome, usage_status, input_tokens, cache_read_tokens, cache_write_1h_tokens,
       output_tokens, thinking_tokens, web_search_requests, cost_status, cost_usd
FROM tollhouse.usage
ORDER BY started_at, request_id
"""

# USD per million tokens: sonnet-5-5 input 2, output 10; opus-5-5 input 4, output 20, cache read 0.20,
# 1-hour cache write 8; a thousand web searches are 10 USD.
EXPECTED: tuple[Row, ...] = (
    # 1,000 x 2/M + 200 x 10/M
    Row("plain", "messages", "completed", "final", 1000, 0, 0, 200, 0, 0, "priced", Decimal("0.004")),
    # 25 x 4/M + 2,000 x 8/M + 100 x 20/M
    Row("cache write", "messages", "completed", "final", 25, 0, 2000, 100, 0, 0, "priced", Decimal("0.0181")),
    # 25 x 4/M + 2,000 x 0.20/M + 300 x 20/M, of which 120 were spent on thinking
    Row("stream", "messages", "completed", "final", 25, 2000, 0, 300, 120, 0, "priced", Decimal("0.0065")),
    # 3,023 x 2/M + 150 x 10/M + 3 x 10/1,000: the tool's definition is 13 tokens, three results are 3,000
    Row("web search", "messages", "completed", "final", 3023, 0, 0, 150, 0, 3, "priced", Decimal("0.037546")),
    Row("count tokens", "count_tokens", "completed", "none", 0, 0, 0, 0, 0, 0, "zero", Decimal(0)),
    Row("error", "messages", "upstream_error", "none", 0, 0, 0, 0, 0, 0, "zero", Decimal(0)),
    # 10 x 2/M + 400 x 10/M: the client left, the gateway read on, the usage is exact
    Row("hang-up", "messages", "client_gone", "final", 10, 0, 0, 400, 0, 0, "priced", Decimal("0.00402")),
)


def main() -> int:
    """Run the demonstration; give the exit code."""
    data_dir = Path(tempfile.mkdtemp(prefix="tollhouse-demo-"))
    try:
        with _stack(data_dir) as (port, clickhouse_port):
            _say("sending seven exchanges through the official SDK")
            _send(f"http://127.0.0.1:{port}/anthropic")
            _say("asking ClickHouse:" + QUERY)
            rows = _rows(clickhouse_port)
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)
    _table(rows)
    return _verdict(rows)


def _send(base_url: str) -> None:
    client = Anthropic(base_url=base_url, api_key="sk-any-key", max_retries=0)
    _plain(client)
    _cache_write(client)
    _stream(client)
    _web_search(client)
    client.messages.count_tokens(
        model="claude-sonnet-5-5",
        messages=[{"role": "user", "content": "How many?"}],
        extra_body=_tagged("count tokens"),
    )
    _error(client)
    _hang_up(client)


def _plain(client: Anthropic) -> None:
    client.messages.create(
        model="claude-sonnet-5-5",
        max_tokens=1000,
        messages=[{"role": "user", "content": _words(1000)}],
        extra_headers={"x-simulate": "output-tokens=200"},
        extra_body=_tagged("plain"),
    )


def _cache_write(client: Anthropic) -> None:
    client.messages.create(
        model="claude-opus-5-5",
        max_tokens=1000,
        system=LONG_SYSTEM,
        messages=[{"role": "user", "content": _words(25)}],
        extra_headers={"x-simulate": "output-tokens=100"},
        extra_body=_tagged("cache write"),
    )


def _stream(client: Anthropic) -> None:
    with client.messages.stream(
        model="claude-opus-5-5",
        max_tokens=2000,
        system=LONG_SYSTEM,
        thinking={"type": "adaptive"},
        messages=[{"role": "user", "content": _words(25)}],
        extra_headers={"x-simulate": "output-tokens=300;thinking-tokens=120"},
        extra_body=_tagged("stream"),
    ) as stream:
        stream.until_done()


def _web_search(client: Anthropic) -> None:
    client.messages.create(
        model="claude-sonnet-5-5",
        max_tokens=1000,
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
        messages=[{"role": "user", "content": _words(10)}],
        extra_headers={"x-simulate": "web-searches=3;output-tokens=150"},
        extra_body=_tagged("web search"),
    )


def _error(client: Anthropic) -> None:
    try:
        client.messages.create(
            model="claude-nobody-9",
            max_tokens=10,
            messages=[{"role": "user", "content": "Hello?"}],
            extra_body=_tagged("error"),
        )
    except APIStatusError as exc:
        _say(f"one is meant to fail: {exc.status_code} {exc.type}")


def _hang_up(client: Anthropic) -> None:
    with client.messages.stream(
        model="claude-sonnet-5-5",
        max_tokens=1000,
        messages=[{"role": "user", "content": _words(10)}],
        extra_headers={"x-simulate": "output-tokens=400;chunk-delay-ms=20"},
        extra_body=_tagged("hang-up"),
    ) as stream:
        next(iter(stream.text_stream))


def _words(tokens: int) -> str:
    return "toll" * tokens


def _tagged(scenario: str) -> dict[str, object]:
    return {"litellm_metadata": {"tags": [scenario], "user": "demo"}}


def _rows(clickhouse_port: int) -> list[Row]:
    """Read the rows until all of them are there; one too many is seen as well."""
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=clickhouse_port, autogenerate_session_id=False
    )
    deadline = time.monotonic() + ROWS_S_MAX
    rows: list[Row] = []
    while len(rows) < len(EXPECTED) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        rows = [Row(*row) for row in client.query(QUERY).result_rows]
    return rows


def _verdict(rows: Sequence[Row]) -> int:
    if tuple(rows) == EXPECTED:
        _say(f"all {len(rows)} rows are the expected ones, to the last digit")
        return 0
    for row in EXPECTED:
        if row not in rows:
            _say(f"MISSING     {row}")
    for row in rows:
        if row not in EXPECTED:
            _say(f"UNEXPECTED  {row}")
    return 1


def _table(rows: Sequence[Row]) -> None:
    heads = ("scenario", "operation", "outcome", "usage", "input", "read", "write 1h", "output", "thinking")
    texts = [[*heads, "searches", "cost is", "cost_usd"]]
    texts += [[f"{cell:f}" if isinstance(cell, Decimal) else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in texts) for column in range(len(texts[0]))]
    for line in texts:
        _say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def _stack(data_dir: Path) -> Generator[tuple[int, int], None, None]:
    """Run `tollhouse up --simulate` on free ports; gives the edge's port and ClickHouse's."""
    port = free_ports(STACK_PORTS)
    kafka_port, clickhouse_port = free_ports(1), free_ports(1)
    argv = [sys.executable, "-m", "services.cli", "up", "--simulate", "--data-dir", str(data_dir)]
    argv += ["--port", str(port), "--kafka-port", str(kafka_port), "--clickhouse-port", str(clickhouse_port)]
    foreign = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            asyncio.run(_until_ready(process))
            yield port, clickhouse_port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(READY_S_MAX)


async def _until_ready(process: subprocess.Popen[str]) -> None:
    """Repeat what the stack says until it is ready; SystemExit with its own code where it never is."""

    def read() -> bool:
        assert process.stdout is not None
        for line in process.stdout:
            _say(line.rstrip())
            if line.startswith("tollhouse is ready"):
                return True
        return False

    if not await asyncio.wait_for(asyncio.to_thread(read), READY_S_MAX):
        raise SystemExit(process.wait() or 1)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
