"""Starts the local Kafka as a process of its own and stops it on a signal; decides nothing else."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import structlog

from services.local.kafka.broker import BrokerSettings
from services.local.kafka.server import KafkaServer
from services.runtime.errors import StartRefused

_EXIT_REFUSED = 2


def main() -> int:
    """Run until SIGTERM or SIGINT; give the exit code."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    try:
        asyncio.run(_serve(_arguments()))
    except StartRefused as exc:
        sys.stderr.write(f"{exc}\n")
        return _EXIT_REFUSED
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="services.local.kafka", description="A single-node Kafka for one machine."
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="where the records are kept")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=_port, default=9092, help="0 takes a free port")
    parser.add_argument(
        "--auto-create-partitions",
        type=int,
        default=0,
        help="create unknown topics with this many partitions (default: leave them unknown)",
    )
    return parser.parse_args()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 2**16:
        raise ValueError(text)
    return port


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    settings = BrokerSettings(
        data_dir=arguments.data_dir, auto_create_partitions=arguments.auto_create_partitions
    )
    server = KafkaServer(settings)
    await server.start(arguments.host, arguments.port)
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    sys.exit(main())
