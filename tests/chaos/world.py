"""A whole Tollhouse on loopback, each service a process of its own, with doors where the network can fail."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import httpx
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.topics import BATCH_FACTS, EDGES, USAGE, topic
from services.local.ports import free_ports
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.spool.survey import surveyed
from services.sink.handler import TOPICS as SINK_TOPICS
from tests.chaos.anthropic_side import AnthropicSide
from tests.chaos.batch_traffic import Key
from tests.chaos.brokers import ApacheKafka, LocalKafka
from tests.chaos.processes import Command, Managed, python
from tests.chaos.proxy import Door

KafkaKind = Literal["local", "apache"]
# What tests stand on where nobody says otherwise: the stand-in, or three brokers of Apache Kafka.
KAFKA: KafkaKind = "apache" if os.environ.get("TOLLHOUSE_CHAOS_KAFKA") == "apache" else "local"

EDGES_COUNT = 2  # whose callers come with keys of their own
GATEWAYS_COUNT = 2  # edges with the gateway's credential and virtual keys: those that batches are made at
CONSUMERS = ("rating", "sink", "batch-tracker")
REPLICAS = 2  # of each consumer
SERVERS = 3  # Kafka, ClickHouse, Anthropic
EDGE_SHUTDOWN_S_MAX = 10
UPSTREAM_READ_S_MAX = 5.0  # longer than the door before it is ever stalled
MASTER_KEY = "sk-chaos-master-0123456789"
GATEWAYS_KEY = "sk-ant-chaos-gateway-0123456789"
# Whose keys there are: two of one team, and one of none.
TEAMS = ("ledger", "ledger", "")
# A batch is looked at often, and what Anthropic lists as well: a run lasts minutes.
LOOKS = {"poll_s_min": 0.5, "poll_s_max": 2.0, "list_interval_s": 5.0, "requests_per_minute_max": 3_000}
# What is nobody's waits for news of its creator, which may lie in the spool of an edge that is away.
ADOPT_GRACE_S = 25.0
GROUP_TOPICS = {
    "tollhouse.batch-tracker": (BATCH_FACTS,),
    "tollhouse.rating": (USAGE,),
    "tollhouse.sink": tuple(name for name in SINK_TOPICS if name != EDGES),
}
CLIENT_TIMEOUT_MS = 10_000
TOPIC_RETRY_MS = 10  # aiokafka sleeps so long, by default 100 ms, for each topic that it asks about first
QUIET_S_MAX = 150.0
QUIET_POLL_S = 0.25
READY = "/health/readiness"
# Short, so that a door that swallows an answer costs a test seconds and no minute.
ANSWER_TIMEOUT_MS = 5_000


class World:
    """The processes by name, the doors by name, and what can be read of their state."""

    def __init__(self, data_dir: Path, kafka: KafkaKind = KAFKA, adopt_grace_s: float = ADOPT_GRACE_S):
        self.data_dir = data_dir
        self.logs = data_dir / "logs"
        self.spool_root = data_dir / "spool"
        count = SERVERS + EDGES_COUNT + GATEWAYS_COUNT + len(CONSUMERS) * REPLICAS
        port = free_ports(count)
        self._ports = iter(range(port, port + count))
        self._adopt_grace_s = adopt_grace_s
        kafka_port, self.clickhouse_port, self.upstream_port = (next(self._ports) for _ in range(SERVERS))
        self.anthropic = AnthropicSide(self.upstream_port)
        self.kafka = (
            ApacheKafka(data_dir) if kafka == "apache" else LocalKafka(data_dir, kafka_port, self.logs)
        )
        self.doors = {
            "clickhouse-door": Door("127.0.0.1", self.clickhouse_port),
            "upstream-door": Door("127.0.0.1", self.upstream_port),
        }
        self.processes: dict[str, Managed] = {}
        self.edge_urls: list[str] = []
        self.gateway_urls: list[str] = []
        self.keys: list[Key] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """Start everything, migrated and ready; kill all of it at the end."""
        async with contextlib.AsyncExitStack() as stack:
            for door in self.doors.values():
                await stack.enter_async_context(door.opened())
            stack.push_async_callback(self._close)
            await self._start()
            yield self

    async def _start(self) -> None:
        clickhouse = ("--port", self.clickhouse_port, "--data-dir", self.data_dir / "clickhouse")
        self._add(
            "clickhouse", python("services.local.clickhouse", *clickhouse), self.clickhouse_port, "/ping"
        )
        # Where Anthropic's answers say that it is must be where edges find it.
        upstream = ("--port", self.upstream_port, "--base-url", self.doors["upstream-door"].url)
        self._add("anthropic", python("services.local.anthropic", *upstream), self.upstream_port, "")
        servers = [self.processes[name] for name in ("clickhouse", "anthropic")]
        await asyncio.gather(self.kafka.start(), *(_started(each) for each in servers))
        await self._migrate()
        edges = [self._service("edge", number) for number in range(1, EDGES_COUNT + GATEWAYS_COUNT + 1)]
        consumers = [self._service(room, number) for room in CONSUMERS for number in range(1, REPLICAS + 1)]
        await asyncio.gather(*(_started(each) for each in (*edges, *consumers)))
        self.edge_urls += [edge.url for edge in edges[:EDGES_COUNT]]
        self.gateway_urls += [edge.url for edge in edges[EDGES_COUNT:]]
        self.keys += await self._made_keys(edges[-1].address)

    async def _made_keys(self, address: str) -> list[Key]:
        headers = {"authorization": f"Bearer {MASTER_KEY}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=30) as admin:
            for team in sorted({*TEAMS} - {""}):
                (await admin.post("/team/new", json={"team_id": team})).raise_for_status()
            keys: list[Key] = []
            for number, team in enumerate(TEAMS, start=1):
                asked = {"key_alias": f"chaos-{number}", **({"team_id": team} if team else {})}
                made = (await admin.post("/key/generate", json=asked)).raise_for_status().json()
                keys.append(Key(made["key"], made["virtual_key_id"], made["key_alias"], team))
        return keys

    async def _migrate(self) -> None:
        migration = Command("migrate", python("services.cli", "migrate"), self.environ("migrate", {}), 0, "")
        process = Managed(migration, self.logs)
        await process.start()
        assert await process.wait() == 0, process.last_words()

    async def _close(self) -> None:
        for process in self.processes.values():
            await process.kill()
        await self.kafka.close()

    def _add(self, name: str, argv: Sequence[str], port: int, probe: str, **environ: str) -> Managed:
        self.processes[name] = Managed(Command(name, argv, environ, port, probe), self.logs)
        return self.processes[name]

    def _service(self, room: str, number: int) -> Managed:
        name, port = f"{room}-{number}", next(self._ports)
        settings = {"host": "127.0.0.1", "port": port}
        if room == "edge":
            settings |= self.edge_section() if number <= EDGES_COUNT else self._gateway_section()
        else:
            settings |= {"group_instance_id": name, **(self._looks() if room == "batch-tracker" else {})}
        environ = self.environ(name, {room.replace("-", "_"): settings})
        return self._add(name, python("services.cli", room), port, READY, **environ)

    def another(self, room: str, name: str, settings: Mapping[str, object], kafka: str = "") -> Managed:
        """One more process of a room, with settings of its own; the caller starts it, and ends it."""
        port = free_ports(1)
        section = {room: {"host": "127.0.0.1", "port": port, **settings}}
        environ = self.environ(name, section, kafka)
        return Managed(Command(name, python("services.cli", room), environ, port, READY), self.logs)

    def edge_section(self) -> dict[str, object]:
        """What an edge is told but its address, whose callers come with keys of their own."""
        return {
            "shutdown_s_max": EDGE_SHUTDOWN_S_MAX,
            "upstream": self._upstream(),
            "spool": {"directory": str(self.spool_root)},
        }

    def _gateway_section(self) -> dict[str, object]:
        return {
            **self.edge_section(),
            "upstream": {**self._upstream(), "api_key": GATEWAYS_KEY},
            "master_key": MASTER_KEY,
        }

    def _looks(self) -> dict[str, object]:
        upstream = {**self._upstream(), "api_key": GATEWAYS_KEY}
        return {**LOOKS, "adopt_grace_s": self._adopt_grace_s, "upstream": upstream}

    def _upstream(self) -> dict[str, object]:
        return {"base_url": self.doors["upstream-door"].url, "read_s_max": UPSTREAM_READ_S_MAX}

    def environ(self, name: str, sections: Mapping[str, object], servers: str = "") -> dict[str, str]:
        """Write a process's configuration file, and give the environment that names it."""
        path = self.data_dir / f"{name}.yaml"
        kafka = {
            "bootstrap_servers": servers or self.kafka.servers,
            "replication_factor": self.kafka.replicas,
            "min_insync_replicas": self.kafka.min_insync_replicas,
        }
        clickhouse = {"url": self.doors["clickhouse-door"].url, "answer_timeout_ms": ANSWER_TIMEOUT_MS}
        path.write_text(yaml.safe_dump({"kafka": kafka, "clickhouse": clickhouse, **sections}))
        return {"TOLLHOUSE_CONFIG": str(path)}

    async def command(self, *arguments: object) -> str:
        """Run `tollhouse` with arguments, and give what it says; a failure is one of the test."""
        code, said = await self.told(*arguments)
        assert code == 0, said
        return said

    async def told(self, *arguments: object) -> tuple[int, str]:
        """Run `tollhouse` with arguments, and give its exit code and what it says."""
        name = f"command-{uuid.uuid4().hex[:8]}"
        environ = self.environ(name, {"batch_tracker": self._looks()})
        process = Managed(Command(name, python("services.cli", *arguments), environ, 0, ""), self.logs)
        await process.start()
        return await process.wait(), process.last_words(lines=200)

    def check(self) -> None:
        """EndedByItself where a process is gone that nobody ended."""
        for process in self.processes.values():
            process.check()

    async def until_ready(self) -> None:
        """Wait until every process answers its probe."""
        await asyncio.gather(*(process.until_ready() for process in self.processes.values()))

    async def until_quiet(self, seconds_max: float = QUIET_S_MAX) -> None:
        """Wait until no spool holds anything and no consumer has anything to read."""
        why = ""
        try:
            async with asyncio.timeout(seconds_max):
                while why := await self._unquiet():
                    self.check()
                    await asyncio.sleep(QUIET_POLL_S)
        except TimeoutError as exc:
            raise TimeoutError(f"not quiet after {seconds_max:.0f} s: {why}") from exc

    async def _unquiet(self) -> str:
        spools = await asyncio.to_thread(lambda: list(surveyed(self.spool_root)))
        if waiting := [each for each in spools if each.entries or each.open_exchanges]:
            return f"spools: {waiting}"
        lag = await self.lag()
        return f"lag: {lag}" if lag else ""

    async def lag(self, groups: Mapping[str, Sequence[str]] | None = None) -> Mapping[str, int]:
        """How many records each group has to read, by topic; heartbeats, which never end, are left out."""
        lag: dict[str, int] = {}
        try:
            async with self._admin() as admin, self._reader() as reader:
                for group, topics in (groups or GROUP_TOPICS).items():
                    committed = await admin.list_consumer_group_offsets(group)
                    places = [place for name in topics for place in _places(name)]
                    for place, end in (await reader.end_offsets(places)).items():
                        done = max(0, committed[place].offset) if place in committed else 0
                        lag[place.topic] = lag.get(place.topic, 0) + end - done
        except (KafkaError, OSError) as exc:
            return {f"unknown: {type(exc).__name__}": 1}
        return {name: records for name, records in lag.items() if records}

    async def ends(self, name: str) -> int:
        """How many records a topic has been given, all partitions together."""
        async with self._reader() as reader:
            return sum((await reader.end_offsets(_places(name))).values())

    async def rows(self, sql: str) -> list[tuple]:
        """Ask ClickHouse, past the door."""
        config = ClickHouseConfig(url=f"http://127.0.0.1:{self.clickhouse_port}")
        async with ClickHouse(config) as clickhouse:
            return [tuple(row) for row in await clickhouse.rows(sql)]

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.kafka.servers, request_timeout_ms=CLIENT_TIMEOUT_MS
        )
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        reader = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.servers,
            request_timeout_ms=CLIENT_TIMEOUT_MS,
            retry_backoff_ms=TOPIC_RETRY_MS,
        )
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


async def _started(process: Managed) -> None:
    await process.start()
    await process.until_ready()


def _places(name: str) -> list[TopicPartition]:
    return [TopicPartition(name, number) for number in range(topic(name).partitions)]
