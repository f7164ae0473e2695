"""More edges beside a stack, each a process: under a credential, or under their callers' own keys."""

import asyncio
import contextlib
import subprocess

from services.local.ports import free_ports
from services.runtime.spool.survey import surveyed
from tests.chaos.processes import Command, Managed, python
from tests.e2e.conftest import ROOT, clean_environ

# Nobody listens there: what an edge books stays in its spool.
NO_KAFKA = "127.0.0.1:1"


def upstream_of(stack):
    """The address of a stack's simulated Anthropic API."""
    return f"http://127.0.0.1:{stack.port + 3}"


@contextlib.asynccontextmanager
async def edge(stack, spool_root, kafka, key=""):
    """Run one for the length of a block and kill it at its end; without a key callers show their own."""
    port = free_ports(1)
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "ANTHROPIC_API_BASE": upstream_of(stack),
        "ANTHROPIC_API_KEY": key,
        "TOLLHOUSE_HOST": "127.0.0.1",
        "TOLLHOUSE_PORT": str(port),
        "TOLLHOUSE_SPOOL_DIRECTORY": str(spool_root),
    }
    command = Command(spool_root.name, python("services.cli", "edge"), environ, port, "/health/liveness")
    process = Managed(command, spool_root.parent / "logs")
    await process.start()
    try:
        await process.until_ready()
        yield process
    finally:
        await process.kill()


async def replay(stack, spool_root):
    """Publish every spool of dead edges to the Kafka of a stack, and give how many entries waited in them."""
    entries = 0
    for spool in surveyed(spool_root):
        entries += spool.entries
        done = await asyncio.to_thread(
            subprocess.run,
            python("services.cli", "spool", "replay", spool.directory),
            cwd=ROOT,
            env=clean_environ(KAFKA_BOOTSTRAP_SERVERS=stack.kafka),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return entries
