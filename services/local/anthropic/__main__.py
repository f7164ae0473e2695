"""Starts the simulated Anthropic API as a process and stops it on a signal; decides nothing else."""

import argparse
import asyncio
import signal
import sys
from collections import deque

import structlog
import uvloop

from services.local.anthropic.api import SEED_MAX, Api
from services.local.anthropic.recording import KeepNothing
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import base_url_of, listen, seed_or_new, serving
from services.runtime.errors import StartRefused

EXIT_REFUSED = 2

log = structlog.get_logger()


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.local.anthropic", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4010)
    parser.add_argument("--api-key", help="refuse every other key; any key is accepted without this")
    parser.add_argument("--seed", type=_seed, help=f"0 to {SEED_MAX}, part of every id (default: a new one)")
    parser.add_argument("--base-url", help="what results_url begins with (default: where it listens)")
    arguments = parser.parse_args()
    try:
        uvloop.run(_run(arguments))
    except StartRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return EXIT_REFUSED
    return 0


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(text)
    return seed


async def _run(arguments: argparse.Namespace) -> None:
    host: str = arguments.host
    listener = listen(host, arguments.port)
    seed = seed_or_new(arguments.seed)
    base_url: str = arguments.base_url or base_url_of(listener)
    api = Api(api_key=arguments.api_key, seed=seed, base_url=base_url.rstrip("/"))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(listener, api, KeepNothing(), deque[CannedReply]()):
        log.info("simulated_anthropic.started", host=host, port=listener.getsockname()[1], seed=seed)
        await stopped.wait()
    log.info("simulated_anthropic.stopped")


if __name__ == "__main__":
    sys.exit(main())
