"""One run of chaos: a world, clients at work, faults by schedule, and the judgement when all is quiet."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from schemas.topics import USAGE
from services.rating.book.file import load
from tests.chaos.batch_traffic import BatchTraffic
from tests.chaos.booked import Say, until_booked
from tests.chaos.brokers import ApacheBroker
from tests.chaos.clients import Clients
from tests.chaos.evidence import BATCH_ITEM, BATCH_ROW_SQL, ROW_SQL, BatchRow, Evidence, Judgement, Row
from tests.chaos.faults import LONG_AWAY_S, SHORT_FAULTS_MAX, Fault, Room, schedule
from tests.chaos.judge import judge
from tests.chaos.processes import Managed
from tests.chaos.world import ADOPT_GRACE_S, CONSUMERS, KAFKA, KafkaKind, World

SEED = 20261122
FAULT_S_MAX = 150.0
# Each fault meets traffic: so many exchanges end between the beginnings of two.
EXCHANGES_BETWEEN = 3
EXCHANGES_BETWEEN_S_MAX = 90.0
# A tracker books for a moment now and then: it is met in the middle of that, where that can be had soon.
BOOKING = 'batch_tracker_batches{phase="booking"}'
BOOKING_S_MAX = 4.0
BOOKING_PART = 0.2  # of the fault's pause, which the seed draws: how far into the booking
# All is quiet when `tollhouse verify` is asked: nothing is on its way any more.
VERIFY_SETTLE_S = 1
VERIFY_WAIT_S = 30


class Options(NamedTuple):
    """What a run is asked for; the same options meet the same faults in the same order."""

    seed: int = SEED
    faults: int = 9
    kafka: KafkaKind = KAFKA
    clients: int = 6
    pause_s: float = 0.2
    batch_clients: int = 2
    batch_pause_s: float = 0.5


class Report(NamedTuple):
    """What a run met and what it found."""

    options: Options
    faults: Mapping[str, int]
    endings: Mapping[str, int]
    rows: int
    outcomes: Mapping[str, int]
    phases: Mapping[str, int]
    items: Mapping[str, int]
    replays: int  # usage events beyond one a row: what was published again
    seconds: Mapping[str, float]
    judgement: Judgement

    def __str__(self) -> str:
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return "\n".join(
            (
                f"seed {self.options.seed}, Kafka {self.options.kafka}: {sum(self.faults.values())} faults "
                f"in {sum(self.seconds.values()):.0f} s ({took})",
                f"  {counted}",
                f"exchanges {sum(self.endings.values())}, as clients saw them: {dict(self.endings)}",
                f"rows {self.rows}, as they are booked: {dict(self.outcomes)}",
                f"batches {sum(self.phases.values())}: {dict(self.phases)}",
                f"items {sum(self.items.values())}, as they are booked: {dict(self.items)}",
                f"usage events that came again: {self.replays}",
                str(self.judgement),
            )
        )


async def run_chaos(options: Options, data_dir: Path, say: Say) -> Report:
    """Run one world through the faults of a seed; what it found is in the report, not raised."""
    has_long_faults = options.faults > SHORT_FAULTS_MAX
    grace_s = ADOPT_GRACE_S + (LONG_AWAY_S if has_long_faults else 0)
    world, seconds, began = World(data_dir, options.kafka, grace_s), dict[str, float](), time.monotonic()
    async with world.running():
        clients = Clients(world.edge_urls, options.seed)
        batch_clients = Clients(world.gateway_urls, options.seed + 1)
        seconds["start"], began = time.monotonic() - began, time.monotonic()
        met = schedule(options.seed, options.faults, targets_of(world))
        draw = BatchTraffic(world.keys, batch_clients.receipts).next_call
        async with (
            clients.at_work(options.clients, options.pause_s),
            batch_clients.at_work(options.batch_clients, options.batch_pause_s, draw),
        ):
            await _Faults(world, clients, say).all(met)
            await world.until_ready()
            await clients.until_more(EXCHANGES_BETWEEN, EXCHANGES_BETWEEN_S_MAX)
        await clients.close()
        await batch_clients.close()
        seconds["faults"], began = time.monotonic() - began, time.monotonic()
        await world.until_quiet()
        await until_booked(world, say)
        evidence = await gathered(world, clients, batch_clients)
        replays = await world.ends(USAGE) - len(evidence.rows)
        code, verified = await world.told("verify", "--settle", VERIFY_SETTLE_S, "--wait", VERIFY_WAIT_S)
        say(verified)
        judgement = judge(evidence, load("", ""))
        if code != 0:
            judgement = judgement._replace(missing=[*judgement.missing, "what `tollhouse verify` misses"])
        seconds["quiet"] = time.monotonic() - began
        return _report(options, met, evidence, seconds, judgement)._replace(replays=replays)


def _report(
    options: Options,
    met: Sequence[Fault],
    evidence: Evidence,
    seconds: Mapping[str, float],
    judgement: Judgement,
) -> Report:
    items = [row for row in evidence.rows if row.operation == BATCH_ITEM]
    exchanges = [row for row in evidence.rows if row.operation != BATCH_ITEM]
    return Report(
        options,
        Counter(f"{_room(fault.target)} {fault.kind}" for fault in met),
        Counter(receipt.ending for receipt in evidence.receipts),
        len(exchanges),
        Counter(row.outcome for row in exchanges),
        Counter("nobody's" if row.is_adopted else row.phase for row in evidence.batches),
        Counter(row.outcome for row in items),
        0,
        seconds,
        judgement,
    )


async def gathered(world: World, *clients: Clients) -> Evidence:
    """Collect what everybody has, once the world is quiet."""
    last_heard = "SELECT edge_id, max(exchange_seq) FROM tollhouse.edges GROUP BY edge_id"
    return Evidence(
        [receipt for each in clients for receipt in each.receipts],
        await world.anthropic.served(),
        [Row(*row) for row in await world.rows(ROW_SQL)],
        [row[0] for row in await world.rows("SELECT toString(request_id) FROM tollhouse.requests")],
        [row[0] for row in await world.rows("SELECT toString(request_id) FROM tollhouse.responses")],
        dict(await world.rows(last_heard)),
        await world.anthropic.ended(),
        [BatchRow(*row) for row in await world.rows(BATCH_ROW_SQL)],
    )


def targets_of(world: World) -> dict[Room, Sequence[str]]:
    """Say who may be met by a fault of each room."""
    numbered = {
        room: [name for name in world.processes if name.startswith(room)] for room in ("edge", *CONSUMERS)
    }
    alone = {name: [name] for name in ("clickhouse", "upstream-door", "clickhouse-door")}
    return {**numbered, **alone, "kafka": list(world.kafka.brokers)}


class _Faults:
    """Does faults, several at a time, but one at a time to one process, and to one broker of all."""

    def __init__(self, world: World, clients: Clients, say: Say) -> None:
        self._world = world
        self._clients = clients
        self._say = say
        self._began = time.monotonic()
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def all(self, faults: Sequence[Fault]) -> None:
        async with asyncio.TaskGroup() as group:
            for number, fault in enumerate(faults, start=1):
                await asyncio.sleep(fault.pause_s)
                await self._clients.until_more(EXCHANGES_BETWEEN, EXCHANGES_BETWEEN_S_MAX)
                self._world.check()
                group.create_task(self._one(number, fault))

    async def _one(self, number: int, fault: Fault) -> None:
        is_broker = fault.target in self._world.kafka.brokers
        async with self._turns["kafka" if is_broker else fault.target], asyncio.timeout(FAULT_S_MAX):
            at = time.monotonic() - self._began
            self._say(f"{at:6.1f} s  {number:3}  {fault.kind} {fault.target} for {fault.seconds:.1f} s")
            if fault.target in self._world.doors:
                await self._to_a_door(fault)
            else:
                await self._to_a_process(fault)

    async def _to_a_door(self, fault: Fault) -> None:
        door = self._world.doors[fault.target]
        {"cut": door.cut, "reset": door.reset, "stall": door.stall, "slow": door.slow}[fault.kind]()
        await asyncio.sleep(fault.seconds)
        door.mend()

    async def _to_a_process(self, fault: Fault) -> None:
        process = (self._world.kafka.brokers | self._world.processes)[fault.target]
        process.check()
        if fault.target.startswith("batch-tracker"):
            await process.is_soon(BOOKING, BOOKING_S_MAX)
            await asyncio.sleep(fault.pause_s * BOOKING_PART)
        if fault.kind == "freeze":
            process.freeze()
            await asyncio.sleep(fault.seconds)
            process.thaw()
        else:
            await self._ended(process, fault)
            await process.start()
        if fault.target in self._world.kafka.brokers:
            await self._world.kafka.until_whole()

    async def _ended(self, process: Managed | ApacheBroker, fault: Fault) -> None:
        if fault.kind == "kill":
            await process.kill()
            await asyncio.sleep(fault.seconds)
            return
        code = await process.end()
        assert code == 0, f"{fault.target} ended with {code}: {process.last_words()}"


def _room(target: str) -> str:
    return target.rsplit("-", 1)[0] if target[-1].isdigit() else target
