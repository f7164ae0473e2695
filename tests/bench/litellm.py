"""What an exchange costs the edge, and what it costs LiteLLM's proxy beside it; `make bench-litellm`.

Both forward the same requests, with the headers of Anthropic's SDK, to one simulated Anthropic API, price
them, and tell of each outside their process: the edge on Kafka, LiteLLM by its `generic_api` callback. They
take turns, so that a ratio holds where the machine's speed drifts. LiteLLM has its master key alone and no
database, which spares it virtual keys and spend to write. Counted is CPU time of user and system: what one
core can carry is its inverse.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import aiohttp

from services.local.ports import free_ports
from tests.bench.machine import cpu_s, described, rss_mb
from tests.e2e.conftest import Stack, clean_environ

LITELLM = Path(__file__).parents[2] / "build" / "litellm" / "bin" / "litellm"
ROUNDS = 5
CLIENTS = 16
# Turns of a few seconds each.
EXCHANGES = {"Tollhouse": 2_000, "LiteLLM": 250}
WARM_UP = 200
START_S_MAX = 120.0
# Nobody's: LiteLLM refuses weak ones.
MASTER_KEY = "sk-bench-4f1c9a7d2e8b6035f1c9a7d2e8b60351"
CONFIG = f"""
model_list: []
general_settings:
  master_key: {MASTER_KEY}
litellm_settings:
  callbacks: ["generic_api"]
"""
MODEL = "claude-sonnet-4-6"  # both know its price
CONSUMERS = ("rating", "sink", "batch-tracker")
PROMPT = "The toll of a bridge is counted at its gate. " * 20
# The headers that Anthropic's Python SDK sends beside the key.
HEADERS = {
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
    "accept": "application/json",
    "user-agent": "Anthropic/Python 2.12.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "2.12.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
    "x-api-key": MASTER_KEY,
}


class Kind(NamedTuple):
    """A request, and how it is named in the table."""

    name: str
    is_stream: bool
    output_tokens: int

    def body(self) -> bytes:
        asked = {"model": MODEL, "max_tokens": 1000, "stream": self.is_stream}
        return json.dumps({**asked, "messages": [{"role": "user", "content": PROMPT}]}).encode()


KINDS = (Kind("1 KB of JSON each way", False, 200), Kind("a stream of some 100 events", True, 400))


class _Logged(BaseHTTPRequestHandler):
    """Takes what LiteLLM logs."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Gateway(NamedTuple):
    """A running gateway: where it listens, and the process that carries the exchanges."""

    name: str
    base_url: str
    pid: int

    def turn(self, kind: Kind, count: int) -> float:
        """Send so many requests and give the CPU time of one, in microseconds."""
        before = cpu_s(self.pid)
        asyncio.run(_send(self.base_url, kind, count))
        return (cpu_s(self.pid) - before) / count * 1e6


def main() -> int:
    """Measure and print; exit code 2 with a sentence where LiteLLM is not there or does not start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    rounds: int = parser.parse_args().rounds
    if not LITELLM.exists():
        sys.stderr.write("LiteLLM is not installed in build/litellm: use `make bench-litellm`.\n")
        return 2
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory) / "stack", "--simulate")
        try:
            with _litellm(Path(directory), f"http://127.0.0.1:{stack.port + 3}") as litellm:
                _measure(stack, litellm, rounds)
        except TimeoutError as exc:
            sys.stderr.write(f"{exc}\n")
            return 2
        finally:
            stack.stop()
    return 0


def _measure(stack: Stack, litellm: Gateway, rounds: int) -> None:
    tollhouse = Gateway("Tollhouse", stack.base_url, stack.pid_of("edge"))
    version = subprocess.run([LITELLM, "--version"], capture_output=True, text=True, check=True).stdout
    print(f"{described()}; LiteLLM {version.split()[-1]}, {rounds} rounds, {CLIENTS} clients\n")
    print("| CPU of an exchange, us | edge | LiteLLM | ratio (lowest to highest) |\n|---|---|---|---|")
    for gateway in (tollhouse, litellm):
        for kind in KINDS:
            gateway.turn(kind, WARM_UP)
    consumers = [stack.pid_of(name) for name in CONSUMERS]
    before, exchanges = sum(map(cpu_s, consumers)), 0
    for kind in KINDS:
        pairs: list[tuple[float, float]] = []
        for _ in range(rounds):
            ours = tollhouse.turn(kind, EXCHANGES["Tollhouse"])
            pairs.append((ours, litellm.turn(kind, EXCHANGES["LiteLLM"])))
            exchanges += EXCHANGES["Tollhouse"]
        ratios = [theirs / ours for ours, theirs in pairs]
        # Means, as LiteLLM sends what it logs every few seconds: not every turn has its share of that.
        ours, theirs = (mean(each) for each in zip(*pairs, strict=True))
        spread = f"{theirs / ours:.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"| {kind.name} | {ours:,.0f} | {theirs:,.0f} | {spread} |", flush=True)
    expected = exchanges + WARM_UP * len(KINDS)
    stored = stack.rows("SELECT 1 FROM tollhouse.usage", expected)
    beside = (sum(map(cpu_s, consumers)) - before) / exchanges * 1e6
    print(f"\nrating, sink and batch tracker beside it: {beside:,.0f} us an exchange")
    print(f"booked: {len(stored):,} of {expected:,}")
    print(f"RSS, MB: edge {rss_mb(tollhouse.pid):.0f}, LiteLLM {rss_mb(litellm.pid):.0f}")


@contextmanager
def _litellm(directory: Path, upstream: str) -> Generator[Gateway]:
    """Run LiteLLM's proxy on one worker; TimeoutError with the end of its log where it does not come up."""
    config, log = directory / "config.yaml", directory / "litellm.log"
    config.write_text(CONFIG)
    logged = ThreadingHTTPServer(("127.0.0.1", 0), _Logged)
    threading.Thread(target=logged.serve_forever, daemon=True).start()
    port = free_ports(1)
    environ = clean_environ(
        ANTHROPIC_API_BASE=upstream,
        ANTHROPIC_API_KEY="sk-ant-simulated",
        GENERIC_LOGGER_ENDPOINT=f"http://127.0.0.1:{logged.server_port}/",
        LITELLM_LOG="ERROR",
        LITELLM_TELEMETRY="False",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [LITELLM, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            cwd=directory,
            env=environ,
            stdout=output,
            stderr=output,
        )
    try:
        if not asyncio.run(_is_up(f"http://127.0.0.1:{port}/health/liveliness", process)):
            raise TimeoutError(f"LiteLLM did not start:\n{log.read_text(errors='replace')[-2000:]}")
        yield Gateway("LiteLLM", f"http://127.0.0.1:{port}/anthropic", process.pid)
    finally:
        process.terminate()
        process.wait(START_S_MAX)
        logged.shutdown()


async def _is_up(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S_MAX
    async with aiohttp.ClientSession() as session:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return True
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
    return False


async def _send(base_url: str, kind: Kind, count: int) -> None:
    headers = {**HEADERS, "x-simulate": f"output-tokens={kind.output_tokens}"}
    body, tickets = kind.body(), iter(range(count))
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(_client(session, f"{base_url}/v1/messages", headers, body, tickets))


async def _client(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes, tickets: Iterator[int]
) -> None:
    for _ in tickets:
        async with session.post(url, data=body, headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()


if __name__ == "__main__":
    raise SystemExit(main())
