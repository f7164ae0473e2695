"""A whole edge process with Kafka away: it serves, keeps what it recorded, and takes over what was left."""

import asyncio
import socket
from datetime import UTC, datetime

import httpx
import pytest

from schemas import codec
from schemas.usage import UsageRecorded
from services.edge import events
from services.edge.config import EdgeConfig, SpoolConfig, UpstreamConfig
from services.edge.main import run_edge
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic
from services.local.ports import free_ports
from services.runtime.kafka import KafkaConfig
from services.runtime.spool.frames import CLOSED, OPENED
from services.runtime.spool.store import Spool
from tests.unit.edge.exchanges import EXCHANGE

TEST_S_MAX = 30.0
START_TRIES_MAX = 500
SPOOL_BYTES_MAX = 1 << 20
MESSAGE = b'{"id":"msg_1","model":"m-1","usage":{"input_tokens":3,"output_tokens":4}}'


async def one_exchange(directory, fsync):
    """Run an edge for one request and stop it."""
    async with SimulatedAnthropic.running() as upstream:
        upstream.reply_next(CannedReply(headers=((b"content-type", b"application/json"),), chunks=(MESSAGE,)))
        port = free_ports(1)
        config = EdgeConfig(
            port=port,
            upstream=UpstreamConfig(base_url=upstream.base_url, api_key="k"),
            spool=SpoolConfig(directory=str(directory), fsync=fsync),
            shutdown_s_max=1,
        )
        kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_ports(1)}")
        stopping = asyncio.Event()
        edge = asyncio.create_task(run_edge(config, kafka, stopping))
        await until_listening(port)
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/v1/messages"
            answer = await client.post(url, headers={"x-api-key": "k"}, json={"model": "m"})
        stopping.set()
        await edge
        return answer


async def until_listening(port):
    """Connect until somebody takes it; the edge binds within its first step."""
    for _ in range(START_TRIES_MAX):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.01)
    raise AssertionError("the edge did not listen")


@pytest.mark.parametrize("fsync", [False, True])
def test_without_kafka_everything_waits_in_the_spool_behind_what_a_dead_process_left(tmp_path, fsync):
    living = Spool(tmp_path / "0000", SPOOL_BYTES_MAX)
    dead = Spool(tmp_path / "0001", SPOOL_BYTES_MAX)
    dead.append(EXCHANGE.request_id, OPENED, events.opening(EXCHANGE))
    source_id = dead.source_id
    dead.close()
    began = datetime.now(UTC)

    answer = asyncio.run(asyncio.wait_for(one_exchange(tmp_path, fsync), TEST_S_MAX))

    request_id = answer.headers["x-tollhouse-request-id"]
    assert (answer.status_code, answer.content) == (200, MESSAGE)
    assert living.entries == 0
    living.close()
    spool = Spool(tmp_path / "0001", SPOOL_BYTES_MAX)
    entries = spool.read(0, 10)
    assert (spool.source_id, [entry[:3] for entry in entries]) == (
        source_id,
        [
            (1, EXCHANGE.request_id, OPENED),
            (2, EXCHANGE.request_id, CLOSED),
            (3, request_id, OPENED),
            (4, request_id, CLOSED),
        ],
    )
    orphaned, completed = (codec.decode(UsageRecorded, entries[at].records[1].value) for at in (1, 3))
    assert (orphaned.outcome, orphaned.source_seq, orphaned.attribution) == (
        "orphaned",
        2,
        EXCHANGE.attribution,
    )
    assert (completed.outcome, completed.source_seq, completed.tokens.output_tokens) == ("completed", 4, 4)
    assert began <= orphaned.finished_at <= completed.finished_at
    spool.close()
