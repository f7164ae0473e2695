"""A broker with the topics of Tollhouse, a simulated API, and trackers that may be killed."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime

import httpx
import msgspec

from schemas import codec, topics
from schemas.attribution import Attribution
from schemas.batches import (
    BatchCounts,
    BatchCreated,
    BatchDeleted,
    BatchFact,
    BatchItem,
    BatchItems,
    BatchSeen,
    BatchState,
)
from schemas.usage import UsageRecorded
from services.batch_tracker.config import BatchTrackerConfig, UpstreamConfig
from services.batch_tracker.facts import record_of
from services.batch_tracker.main import run_batch_tracker
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from tests.integration.runtime.clients import read_all

KEY = "sk-ant-test"
WAIT_S = 40.0
CREATOR = Attribution(
    virtual_key_id="vk_creator",
    team_id="t",
    end_user_id="creator",
    tags=("a",),
    metadata={"x": "1", "y": "1"},
)
EDGE = "0193524b-5f00-7abc-8def-000000000001"
CREATE_ID = "0193524b-5f00-7abc-8def-000000000002"


def item(custom_id, words=10):
    params = {
        "model": "claude-sonnet-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "word " * words}],
    }
    return {"custom_id": custom_id, "params": params}


async def create(upstream, custom_ids, simulate=""):
    """Create a batch at the API, as an edge would; gives Anthropic's object."""
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    if simulate:
        headers["x-simulate"] = simulate
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{upstream.base_url}/v1/messages/batches",
            headers=headers,
            json={"requests": [item(each) for each in custom_ids]},
            timeout=WAIT_S,
        )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def call(upstream, method, path):
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(trust_env=False) as client:
        address = f"{upstream.base_url}/v1/messages/batches{path}"
        return await client.request(method, address, headers=headers)


def fact(batch, what):
    return BatchFact(batch_id=batch["id"], at=datetime.now(UTC), edge_id=EDGE, fact=what)


def created(batch, requests, chunks=0, credential="default", models=("claude-sonnet-5",)):
    return fact(
        batch,
        BatchCreated(
            created_at=datetime.fromisoformat(batch["created_at"]),
            expires_at=datetime.fromisoformat(batch["expires_at"]),
            requests=requests,
            attribution=CREATOR,
            credential=credential,
            request_id=CREATE_ID,
            models=models,
            item_chunks=chunks,
            anthropic_version="2023-06-01",
        ),
    )


def chunk(batch, number, items):
    return fact(batch, BatchItems(chunk=number, items=tuple(items)))


def owned(custom_id):
    return BatchItem(custom_id=custom_id, end_user_id=f"user-{custom_id}", tags=("b",), metadata={"y": "2"})


def saw(batch, credential="default"):
    return fact(
        batch,
        BatchSeen(
            status=batch["processing_status"],
            created_at=datetime.fromisoformat(batch["created_at"]),
            expires_at=datetime.fromisoformat(batch["expires_at"]),
            credential=credential,
            ended_at=datetime.fromisoformat(batch["ended_at"]) if batch["ended_at"] else None,
            counts=BatchCounts(**batch["request_counts"]),
        ),
    )


def deleted(batch):
    return fact(batch, BatchDeleted())


async def publish(kafka, facts):
    publisher = Publisher(kafka)
    try:
        assert await publisher.publish([record_of(each) for each in facts]) == []
    finally:
        await publisher.close()


async def states(kafka):
    """The latest state of every batch."""
    found = {}
    for record in await read_all(kafka, topics.BATCHES, 6):
        if record.value is None:
            found.pop(record.key.decode(), None)
        else:
            found[record.key.decode()] = codec.decode(BatchState, record.value)
    return found


async def usages(kafka, batch_id):
    """Every usage event of a batch, as often as it was published."""
    events = [codec.decode(UsageRecorded, each.value) for each in await read_all(kafka, topics.USAGE, 12)]
    return [event for event in events if event.batch_id == batch_id]


async def until_phase(kafka, batch_id, *phases):
    """Wait for a batch to be in one of these phases; gives its state."""
    async with asyncio.timeout(WAIT_S):
        while True:
            state = (await states(kafka)).get(batch_id)
            if state is not None and state.phase in phases:
                return state
            await asyncio.sleep(0.1)


def config_of(upstream, **members):
    address = UpstreamConfig(base_url=upstream.base_url, api_key=KEY)
    settings = {
        "port": 0,
        "poll_s_min": 0.05,
        "poll_s_max": 0.2,
        "requests_per_minute_max": 60_000,
        "upstream": address,
        "list_interval_s": 0.0,
        "adopt_grace_s": 0.0,
        **members,
    }
    return BatchTrackerConfig(**settings)


@contextlib.asynccontextmanager
async def tracker(kafka: KafkaConfig, config: BatchTrackerConfig):
    """A tracker in this event loop."""
    stopping = asyncio.Event()
    task = asyncio.create_task(run_batch_tracker(config, kafka, stopping))
    try:
        yield task
    finally:
        stopping.set()
        await task


class TrackerProcess:
    """`tollhouse batch-tracker` as a process of its own."""

    def __init__(self, kafka, upstream, tmp_path, **members):
        config = config_of(upstream, **members)
        file = tmp_path / f"tracker-{id(self)}.yaml"
        settings = msgspec.to_builtins(config)
        document = {"kafka": {"bootstrap_servers": kafka.bootstrap_servers}, "batch_tracker": settings}
        file.write_bytes(msgspec.yaml.encode(document))
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "TOLLHOUSE_", "KAFKA_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "--config", str(file), "batch-tracker"],
            env=clean,
            stderr=subprocess.PIPE,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def kill(self):
        self.process.kill()
        self.end()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.end()

    def end(self):
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        self.process.stderr.close()
