"""Edges on one Kafka, each with its own reader of the keys; and a client that may do everything."""

import asyncio
import contextlib
import time
from typing import NamedTuple

import httpx

from services.edge.config import EdgeConfig, SpoolConfig, UpstreamConfig
from services.edge.main import run_edge
from services.local.anthropic.server import SimulatedAnthropic
from services.local.ports import free_ports
from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.integration.edge.registry_kafka import running_broker
from tests.integration.runtime import brokers

MASTER = "sk-master-0123456789"
GATEWAY_KEY = "sk-ant-gateway"
WAIT_S_MAX = 30.0
AS_MASTER = {"authorization": f"Bearer {MASTER}"}
MESSAGE = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}


class Stack(NamedTuple):
    """Edges, each by a client of its own, and what they stand between."""

    edges: list[httpx.AsyncClient]
    upstream: SimulatedAnthropic
    kafka: KafkaConfig


@contextlib.asynccontextmanager
async def stack(directory, edges=1, **settings):
    """Run a broker and edges before a simulated API, all in this event loop; `settings` are of every edge."""
    async with contextlib.AsyncExitStack() as things:
        upstream = await things.enter_async_context(SimulatedAnthropic.running(api_key=GATEWAY_KEY))
        address = await things.enter_async_context(running_broker(directory / "kafka"))
        kafka = KafkaConfig(bootstrap_servers=address, request_timeout_ms=5_000)
        await migrate_topics(kafka)
        clients = [
            await things.enter_async_context(edge(directory / f"edge-{number}", upstream, kafka, **settings))
            for number in range(edges)
        ]
        for client in clients:
            await until_ready(client)
        yield Stack(clients, upstream, kafka)


@contextlib.asynccontextmanager
async def edge(directory, upstream, kafka, gateway_key=GATEWAY_KEY, **settings):
    """Run one edge behind the master key and give a client of it."""
    port = free_ports(1)
    config = EdgeConfig(
        port=port,
        master_key=MASTER,
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key=gateway_key),
        spool=SpoolConfig(directory=str(directory)),
        shutdown_s_max=1,
        **settings,
    )
    stopping = asyncio.Event()
    task = asyncio.create_task(run_edge(config, kafka, stopping))
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=WAIT_S_MAX
    ) as client:
        try:
            yield client
        finally:
            stopping.set()
            await task


async def until_ready(client, status=200):
    """Wait until an edge says of itself that it is ready, or that it is not."""

    async def says():
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/health/readiness")).status_code == status
        return False

    await brokers.until_true(says, WAIT_S_MAX)


async def told(client, path, expected=200, **body):
    """Ask the admin API for a change."""
    answer = await client.post(path, headers=AS_MASTER, json=body)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def asked(client, path, expected=200, **query):
    """Ask the admin API a question."""
    answer = await client.get(path, headers=AS_MASTER, params=query)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def sent(client, key, path="/anthropic/v1/messages", body=MESSAGE, **headers):
    """Send a message with a key."""
    return await client.post(
        path, headers={"x-api-key": key, "anthropic-version": "2023-06-01", **headers}, json=body
    )


async def seconds_until(client, key, status):
    """Say after how long a message with this key is answered so."""
    began = time.perf_counter()

    async def answered():
        return (await sent(client, key)).status_code == status

    await brokers.until_true(answered, WAIT_S_MAX)
    return time.perf_counter() - began
