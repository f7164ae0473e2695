"""What it takes to book a batch of 100,000 items, each with an attribution of its own: time and peak memory.

    python -m tests.bench.batches [items]

A local Kafka, the simulated API and `tollhouse batch-tracker`, each a process of its own.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.bench.machine import described
from tests.integration.batch_tracker import world
from tests.integration.local_kafka.brokers import BrokerProcess

ITEMS = 100_000
CHUNK_ITEMS = 1_000
METADATA = {"ticket": "SUP-10442", "region": "eu-west-1", "note": "x" * 200}
WAIT_S = 900.0


def main(items):
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder) / "kafka").start()
        try:
            asyncio.run(booked(KafkaConfig(bootstrap_servers=broker.address), Path(folder), items))
        finally:
            broker.stop()


async def booked(kafka, folder, items):
    await migrate_topics(kafka)
    upstream = Upstream.started()
    names = [f"item-{number}" for number in range(items)]
    batch = await world.create(upstream, names)
    facts = [world.created(batch, items, chunks=-(-items // CHUNK_ITEMS))]
    for number, start in enumerate(range(0, items, CHUNK_ITEMS)):
        owned = [
            msgspec.structs.replace(world.owned(name), metadata=METADATA)
            for name in names[start : start + CHUNK_ITEMS]
        ]
        facts.append(world.chunk(batch, number, owned))
    await world.publish(kafka, facts)
    # The results are written anew for each reading: what that takes is the API's, and said beside.
    began = time.monotonic()
    size = len((await world.call(upstream, "GET", f"/{batch['id']}/results")).content)
    download_s = time.monotonic() - began
    began = time.monotonic()
    process = world.TrackerProcess(kafka, upstream, folder)
    try:
        idle = await peak_when_joined(process)
        state = await until_booked(kafka, batch["id"])
        taken_s = time.monotonic() - began
        peak = peak_bytes(process.process.pid)
    finally:
        process.stop()
        upstream.process.terminate()
        upstream.process.wait()
    print(described())
    print(f"{state.booked.succeeded} items booked in {taken_s:.1f} s, process start included")
    print(f"results: {size / 2**20:.0f} MiB; the simulated API alone takes {download_s:.1f} s to write them")
    print(f"peak memory of the tracker, {idle / 2**20:.0f} MiB when it starts: {peak / 2**20:.0f} MiB")


async def until_booked(kafka, batch_id):
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        state = (await world.states(kafka)).get(batch_id)
        if state is not None and state.phase == "booked":
            return state
        await asyncio.sleep(0.5)
    raise SystemExit("not booked in time")


async def peak_when_joined(process):
    said = process.lines
    while not any(b"partitions_assigned" in line for line in [*said]):  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.02)
    return peak_bytes(process.process.pid)


def peak_bytes(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


class Upstream:
    """The simulated API in a process of its own."""

    def __init__(self, process, base_url):
        self.process = process
        self.base_url = base_url

    @classmethod
    def started(cls):
        argv = [sys.executable, "-m", "services.local.anthropic", "--port", "0"]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = process.stdout.readline()
        port = re.search(r"\bport\W+(\d+)", said)
        assert port, said
        return cls(process, f"http://127.0.0.1:{port[1]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS)
