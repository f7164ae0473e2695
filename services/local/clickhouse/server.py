"""Starts and stops the server: claims directory and port, opens the engine, serves until a signal."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn

from services.local.clickhouse.access import Account, is_loopback
from services.local.clickhouse.engine import Engine
from services.local.clickhouse.http import HttpInterface
from services.local.clickhouse.protocol import BoundedHeadProtocol
from services.runtime.errors import StartRefused
from services.runtime.listener import listening
from services.runtime.lock import DirectoryHeld, lock_directory

MEMORY_BYTES_MAX_DEFAULT = 2_000_000_000
# Below this the engine's own caches and threads leave nothing for queries.
MEMORY_BYTES_MIN = 500_000_000
# A laptop's services and one analyst; beyond, clients are told to come back (503).
CONNECTIONS_MAX = 256
# What a connection may take to end after a signal; with the engine's end it stays below three seconds.
GRACE_S = 1
# What killed statements may take to notice.
KILL_S = 0.5
# Clients keep connections for their next query; a server's own limit is 30 s in ClickHouse as well.
KEEP_ALIVE_S = 30

DEFAULT_ACCOUNT = Account()
LOCK_FILE = ".tollhouse-lock"

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Where to keep data, where to listen, for whom, and how much memory to use."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8123
    memory_bytes_max: int = MEMORY_BYTES_MAX_DEFAULT
    account: Account = DEFAULT_ACCOUNT


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, or refuse to start."""
    started_s = time.monotonic()
    if not is_loopback(config.host):
        raise StartRefused(
            f"The local ClickHouse serves this machine only, not {config.host}: use 127.0.0.1."
        )
    if config.memory_bytes_max < MEMORY_BYTES_MIN:
        raise StartRefused(f"The local ClickHouse needs at least {MEMORY_BYTES_MIN} bytes of memory.")
    with _claimed(config.data_dir) as data_dir, _engine(data_dir, config.memory_bytes_max) as engine:
        interface = HttpInterface(engine, config.account)
        # Only now: who can connect is answered at once.
        with _listening(config.host, config.port) as listener:
            log.info(
                "local_clickhouse.started",
                host=config.host,
                port=listener.getsockname()[1],
                engine=engine.version,
                duration_ms=round((time.monotonic() - started_s) * 1000),
            )
            _serve_until_signal(interface, listener)
        has_ended = interface.stop(KILL_S)
    log.info("local_clickhouse.stopped", has_ended=has_ended)
    if not has_ended:
        # A statement that cannot be killed would hold the interpreter until it ends. What was acknowledged is
        # on disk, as after any kill.
        os._exit(0)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    try:
        listener = listening(host, port, CONNECTIONS_MAX)
    except (OSError, OverflowError) as exc:
        raise StartRefused(f"The local ClickHouse cannot listen on {host}:{port}: {exc}.") from exc
    with listener:
        yield listener


@contextlib.contextmanager
def _claimed(data_dir: Path) -> Generator[Path]:
    """Hold the directory for this process: the engine's own lock fails with a page of text."""
    try:
        lock = lock_directory(data_dir, LOCK_FILE)
    except DirectoryHeld as exc:
        raise StartRefused(f"The data directory {data_dir} is in use by another process.") from exc
    except OSError as exc:
        raise StartRefused(f"The data directory {data_dir} cannot be used: {exc.strerror}.") from exc
    try:
        yield data_dir.resolve()
    finally:
        os.close(lock)


@contextlib.contextmanager
def _engine(data_dir: Path, memory_bytes_max: int) -> Generator[Engine]:
    if "?" in str(data_dir):
        raise StartRefused(
            f"The data directory {data_dir} has a question mark in its path, which chDB cannot open."
        )
    try:
        engine = Engine(data_dir, memory_bytes_max)
    except RuntimeError as exc:
        reason = str(exc).splitlines()[0]
        raise StartRefused(f"chDB cannot open the data directory {data_dir}: {reason}") from exc
    try:
        yield engine
    finally:
        engine.close()


def _serve_until_signal(interface: HttpInterface, listener: socket.socket) -> None:
    # uvicorn raises the signal that stopped it once more when it is done, and must then find a handler that
    # lets the engine be closed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note_signal)
    server = uvicorn.Server(
        uvicorn.Config(
            interface,
            http=BoundedHeadProtocol,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    asyncio.run(server.serve(sockets=[listener]))


def _note_signal(number: int, _frame: object) -> None:
    """Take a signal without ending the process on the spot."""
    log.info("local_clickhouse.signalled", signal=signal.Signals(number).name)
