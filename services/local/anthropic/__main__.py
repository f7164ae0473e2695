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
from services.local.anthropic.server import listen, serving
from services.runtime.errors import StartRefused

EXIT_REFUSED = 2

log = structlog.get_logger()


def main() -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.local.anthropic", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4010)
    parser.add_argument("--api-key", help="refuse every other key; any key is accepted without this")
    parser.add_argument("--seed", type=_seed, default=0, help=f"0 to {SEED_MAX}, part of every id")
    arguments = parser.parse_args()
    try:
        uvloop.run(_run(arguments.host, arguments.port, Api(api_key=arguments.api_key, seed=arguments.seed)))
    except StartRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return EXIT_REFUSED
    return 0


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(text)
    return seed


async def _run(host: str, port: int, api: Api) -> None:
    listener = listen(host, port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(listener, api, KeepNothing(), deque[CannedReply]()):
        log.info("simulated_anthropic.started", host=host, port=listener.getsockname()[1])
        await stopped.wait()
    log.info("simulated_anthropic.stopped")


if __name__ == "__main__":
    sys.exit(main())
