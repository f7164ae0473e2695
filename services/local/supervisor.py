"""Starts the processes of the local stack, watches them, and stops them in the order that loses nothing."""

import asyncio
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from services.local.plan import HOST, SECRETS, Child, Plan
from services.runtime.clickhouse import ClickHouseConfig
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.tables import migrate_tables
from services.runtime.topics import migrate_topics

START_S_MAX = 60.0
STOP_S_MAX_PER_TURN = (5.0, 2.0, 2.0)  # edge; consumers; servers: together below 10
PROBE_S = 0.05
LAST_WORDS_BYTES_MAX = 16 * 1024
# Of one log, and of the one before it: some 150,000 exchanges. Looked at every LOGS_LOOKED_AT_S.
LOG_BYTES_MAX = 64 * 1024 * 1024
LOGS_LOOKED_AT_S = 10.0
LINUX_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


class Stores(NamedTuple):
    """What is migrated before the services start, as it is configured."""

    kafka: KafkaConfig
    clickhouse: ClickHouseConfig


async def run_stack(
    layout: Plan, stores: Stores, environ: Mapping[str, str], stopping: asyncio.Event, say: Say
) -> None:
    """Run the stack until `stopping` is set; StartRefused if it cannot begin, ServiceStopped if one ends."""
    lock = _locked(layout.data_dir)
    try:
        _check_extra(layout)
        _check_ports((*layout.servers, *layout.services))
        await _Stack(layout, stores, environ, say).run(stopping)
    finally:
        os.close(lock)


class _Stack:
    def __init__(self, layout: Plan, stores: Stores, environ: Mapping[str, str], say: Say) -> None:
        self._plan = layout
        self._stores = stores
        self._logs = layout.data_dir / "logs"
        self._environ = {**environ, **layout.environ}
        self._say = say
        self._running: dict[str, tuple[Child, asyncio.subprocess.Process]] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        try:
            if await self._started(stopping):
                for name, address in self._plan.addresses:
                    self._say(f"{name:<11} {address}")
                self._say("tollhouse is ready")
                await self._watch(stopping)
        finally:
            await self._stop()

    async def _started(self, stopping: asyncio.Event) -> bool:
        """Start everything; False where the stack was asked to stop meanwhile."""
        starting = asyncio.create_task(self._start())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            await starting
            return True
        finally:
            for task in (starting, asked):
                task.cancel()
            await asyncio.gather(starting, asked, return_exceptions=True)

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(START_S_MAX):
                await self._launch(self._plan.servers)
                await migrate_topics(self._stores.kafka)
                await migrate_tables(self._stores.clickhouse)
                await self._launch(self._plan.services)
        except TimeoutError as exc:
            raise StartRefused(
                f"the stack was not ready within {START_S_MAX:.0f} s; see {self._logs}."
            ) from exc

    async def _launch(self, children: Sequence[Child]) -> None:
        for child in children:
            self._running[child.name] = (child, await self._spawned(child))
        async with asyncio.TaskGroup() as waiting:
            for child in children:
                waiting.create_task(self._until_ready(child))

    async def _spawned(self, child: Child) -> asyncio.subprocess.Process:
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{child.name}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as output:  # appending, so that the file can be emptied under the child
            return await asyncio.create_subprocess_exec(
                *child.argv,
                env={k: v for k, v in self._environ.items() if k not in SECRETS - child.secrets},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the supervisor, which knows the order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    async def _until_ready(self, child: Child) -> None:
        process = self._running[child.name][1]
        async with httpx.AsyncClient(trust_env=False) as client:
            while not await _is_ready(child, client):
                if process.returncode is not None:
                    raise StartRefused(self._last_words(child, process.returncode))
                await asyncio.sleep(PROBE_S)

    async def _watch(self, stopping: asyncio.Event) -> None:
        asked = asyncio.create_task(stopping.wait())
        exits = {asyncio.create_task(process.wait()): child for child, process in self._running.values()}
        done: set[asyncio.Task[Any]] = set()
        while not done:
            await asyncio.to_thread(bound_logs, self._logs, LOG_BYTES_MAX)
            done, _ = await asyncio.wait(
                {asked, *exits}, timeout=LOGS_LOOKED_AT_S, return_when=asyncio.FIRST_COMPLETED
            )
        for task in (asked, *exits):
            task.cancel()
        ended = [(exits[task], task.result()) for task in done if task in exits]
        if ended and asked not in done:
            child, code = ended[0]
            raise ServiceStopped(self._last_words(child, int(code)))

    async def _stop(self) -> None:
        for turn, seconds in enumerate(STOP_S_MAX_PER_TURN, start=1):
            processes = [
                process
                for child, process in self._running.values()
                if child.stop_turn == turn and process.returncode is None
            ]
            for process in processes:
                process.send_signal(signal.SIGTERM)
            await _ended(processes, seconds)

    def _last_words(self, child: Child, code: int) -> str:
        """Say why a child ended: its own sentence where it wrote one, else where to look."""
        path = self._logs / f"{child.name}.log"
        lines = _last(path).decode(errors="replace").splitlines()
        sentence = list(takewhile(lambda line: not line.startswith("{"), reversed(lines)))[::-1]
        why = "\n".join(sentence).partition(": ")[2] or "it said nothing more"
        return f"{child.name} ended with exit code {code}: {why} (log: {path})"


def bound_logs(directory: Path, bytes_max: int) -> None:
    """Move logs that have grown beyond `bytes_max` to `.log.1`, in the place of the older ones there."""
    for path in directory.glob("*.log"):
        if path.stat().st_size > bytes_max:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def _last(path: Path) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - LAST_WORDS_BYTES_MAX))
        return log.read()


async def _is_ready(child: Child, client: httpx.AsyncClient) -> bool:
    try:
        if child.probe != "connect":
            return (await client.get(f"http://{HOST}:{child.port}{child.probe}")).status_code == 200
        _, writer = await asyncio.open_connection(HOST, child.port)
        writer.close()
        return True
    except (OSError, httpx.TransportError):
        return False


async def _ended(processes: Sequence[asyncio.subprocess.Process], seconds: float) -> None:
    if not processes:
        return
    waiting = {asyncio.create_task(process.wait()) for process in processes}
    _, late = await asyncio.wait(waiting, timeout=seconds)
    for process in processes:
        if process.returncode is None:
            process.kill()
    if late:
        await asyncio.wait(late)


def _locked(data_dir: Path) -> int:
    try:
        return lock_directory(data_dir, "lock")
    except DirectoryHeld as exc:
        raise StartRefused(
            f"the data directory {data_dir} is in use by another stack: stop it, or give another --data-dir."
        ) from exc
    except OSError as exc:
        raise StartRefused(f"cannot use the data directory {data_dir}: {exc.strerror}.") from exc


def _check_extra(layout: Plan) -> None:
    needs_chdb = any(child.name == "clickhouse" for child in layout.servers)
    if needs_chdb and importlib.util.find_spec("chdb") is None:
        raise StartRefused(
            "the local ClickHouse needs the extra `local`: pip install 'tollhouse[local]', "
            "or set CLICKHOUSE_URL to a server that is there."
        )


def _check_ports(children: Iterable[Child]) -> None:
    for child in children:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, child.port))
            except (OSError, OverflowError) as exc:
                raise StartRefused(
                    f"port {child.port} ({child.name}) is in use; choose another with {child.port_option}."
                ) from exc


def _die_with_parent() -> None:
    """Ask Linux to stop this child when the supervisor is gone, however it went (prctl(2))."""
    ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGTERM)
