"""One process of the world: started by an operator's command, killed, frozen, restarted; decides no fault."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.e2e.conftest import ROOT, clean_environ

READY_S_MAX = 90.0
END_S_MAX = 45.0  # the longest drain of any service, and room for a busy machine
POLL_S = 0.05
SCRAPE_S = 0.01
LINUX_PR_SET_PDEATHSIG = 1


class EndedByItself(Exception):
    """A process ended that nobody had asked to; the text names it and its log."""


class Command(NamedTuple):
    """How a process is started, and the address that answers when it is ready."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    port: int
    probe: str  # a path that answers 200; "" where a connection is enough


class Managed:
    """A process by its command; everything that can be done to it from outside."""

    def __init__(self, command: Command, logs: Path) -> None:
        self.name = command.name
        self._command = command
        self._log = logs / f"{command.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._is_ended = True

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._command.port}"

    @property
    def url(self) -> str:
        """The base URL of an edge's clients."""
        return f"{self.address}/anthropic"

    async def start(self) -> None:
        """Start it and return at once: whom it needs may be away."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command.argv,
                cwd=ROOT,
                env=clean_environ(**self._command.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._is_ended = False

    async def kill(self) -> None:
        """End it as the kernel would, and return when it is gone."""
        assert self._process is not None
        self._is_ended = True
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """Stop it in mid-work: its connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if no time had passed."""
        self._signal(signal.SIGCONT)

    async def end(self) -> int:
        """Ask it to end, and give its exit code; one that has not come up has nothing to put in order."""
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            is_up = await self._answers(client)
        self._is_ended = True
        self._signal(signal.SIGTERM)
        assert self._process is not None
        async with asyncio.timeout(END_S_MAX):
            code = await self._process.wait()
        return 0 if code == -signal.SIGTERM and not is_up else code

    async def wait(self) -> int:
        """Wait for the end of a process that ends by itself, and give its exit code."""
        assert self._process is not None
        self._is_ended = True
        async with asyncio.timeout(READY_S_MAX):
            return await self._process.wait()

    def check(self) -> None:
        """EndedByItself where it is gone and nobody ended it."""
        if not self._is_ended and self._process is not None and self._process.returncode is not None:
            raise EndedByItself(
                f"{self.name} ended by itself with {self._process.returncode}: {self.last_words()}"
            )

    async def until_ready(self, seconds_max: float = READY_S_MAX) -> None:
        async with asyncio.timeout(seconds_max), httpx.AsyncClient(trust_env=False, timeout=2) as client:
            while not await self._is_ready(client):
                self.check()
                await asyncio.sleep(POLL_S)

    async def status(self, client: httpx.AsyncClient) -> int:
        """What its probe answers; 0 where nobody answers."""
        try:
            return (await client.get(f"{self.address}{self._command.probe}")).status_code
        except httpx.TransportError:
            return 0

    async def metric(self, sample: str) -> float:
        """One sample of its metrics, by its name and labels as they are scraped; 0 where it never moved."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await self._scraped(client, sample)

    async def is_soon(self, sample: str, seconds_max: float) -> bool:
        """Wait until a sample of its metrics is above 0, and say whether it came to be that in time."""
        try:
            async with asyncio.timeout(seconds_max), httpx.AsyncClient(trust_env=False) as client:
                while not await self._scraped(client, sample):  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(SCRAPE_S)
        except (TimeoutError, httpx.TransportError):
            return False
        return True

    def last_words(self, lines: int = 5) -> str:
        said = self._log.read_text(errors="replace").splitlines()
        return f"{self._log}\n" + "\n".join(said[-lines:])

    def has_said(self, word: str) -> bool:
        """Whether its log holds a word."""
        return word.encode() in self._log.read_bytes()

    async def _scraped(self, client: httpx.AsyncClient, sample: str) -> float:
        scraped = (await client.get(f"{self.address}/metrics")).text
        found = [line.rsplit(" ", 1)[1] for line in scraped.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0]) if found else 0.0

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        if self._command.probe:
            return await self.status(client) == 200
        return await self._answers(client)

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        if self._command.probe:
            return await self.status(client) != 0
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._command.port)
        except OSError:
            return False
        writer.close()
        return True


def python(*arguments: object) -> tuple[str, ...]:
    """A command line for a module of ours, under the Python that runs the tests."""
    return (sys.executable, "-m", *map(str, arguments))


def _die_with_parent() -> None:
    """Ask Linux to kill this child when the test is gone, frozen or not (prctl(2))."""
    ctypes.CDLL(None).prctl(LINUX_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
