"""The batch tracker's stage: facts in, states out, and beside that a task for each batch that is open."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime

import structlog
from msgspec.structs import replace

from schemas import codec
from schemas.batches import BatchCreated, BatchFact, BatchItems, BatchState
from schemas.topics import BATCH_FACTS
from services.batch_tracker.following import Following
from services.batch_tracker.holdings import Holding
from services.batch_tracker.state import (
    FOLLOWED,
    FactPlace,
    after,
    is_late_creator,
    readdressed,
)
from services.runtime import metrics
from services.runtime.records import ConsumedRecord, DeadRecord, Processed

log = structlog.get_logger(__name__)

SWEEP_S = 3600.0

NewHolding = Callable[[int], Holding]
NewFollowing = Callable[[str, Holding], Following]


class Tracker:
    """Owns the batches of its partitions; `run` must be under way while it is given any."""

    name = "batch-tracker"
    topics = (BATCH_FACTS,)

    def __init__(self, credential: str, new_holding: NewHolding, new_following: NewFollowing) -> None:
        self._credential = credential
        self._new_holding = new_holding
        self._new_following = new_following
        self._holdings: dict[int, Holding] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._followings: dict[str, Following] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether it owns partition 0: who does also looks for batches that nobody announced."""
        return 0 in self._holdings

    async def run(self) -> None:
        """Follow batches until cancelled; every SWEEP_S forget those that are long over."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                await asyncio.sleep(SWEEP_S)
                for holding in list(self._holdings.values()):
                    forgotten = await holding.forget(datetime.now(UTC))
                    log.info("batches.forgotten", partition=holding.partition, batches=forgotten)

    def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
        """Begin to read the states of these partitions."""
        for _, partition in sorted(partitions):
            holding = self._holdings[partition] = self._new_holding(partition)
            self._begin(self._opened(holding))

    async def revoked(self) -> None:
        """Stop every task; what they have published has the ids that a successor's will have."""
        holdings, self._holdings = self._holdings, {}
        tasks, self._tasks, self._followings = self._tasks, set(), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for holding in holdings.values():
            holding.give_up()

    async def process(self, records: Sequence[ConsumedRecord]) -> Processed:
        """Lay facts over states, and return when the states are acknowledged."""
        dead: list[DeadRecord] = []
        by_partition: dict[int, list[tuple[FactPlace, BatchFact]]] = {}
        for record in records:
            try:
                fact = codec.decode(BatchFact, record.value)
            except codec.Undecodable as exc:
                dead.append(DeadRecord(record, type(exc).__name__, str(exc)))
                continue
            place = FactPlace(record.partition, record.offset)
            by_partition.setdefault(record.partition, []).append((place, _without_items(fact)))
        for partition, facts in by_partition.items():
            holding = self._holdings.get(partition)
            if holding is None:  # given up in the meantime: the facts come again to whoever owns them
                raise asyncio.CancelledError
            await holding.loaded()
            changed = await holding.take_in(lambda states, facts=facts: self._decided(states, facts))
            for state in changed.values():
                self._follow(holding, state)
        return Processed(dead=dead)

    def _decided(
        self, states: Mapping[str, BatchState], facts: Sequence[tuple[FactPlace, BatchFact]]
    ) -> Mapping[str, BatchState]:
        decided: dict[str, BatchState] = {}
        for place, fact in facts:
            before = decided.get(fact.batch_id) or states.get(fact.batch_id)
            state = after(before, fact, place, self._credential)
            if is_late_creator(before, fact):
                _tell_creator(fact)
            if state is None:
                log.info("batch.fact_of_unknown_batch", batch_id=fact.batch_id, partition=place.partition)
                continue
            if before is None and state.is_adopted:
                metrics.batch_tracker_adopted.inc()
            decided[fact.batch_id] = state
        return decided

    async def _opened(self, holding: Holding) -> None:
        await holding.load()
        moved = await holding.take_in(
            lambda states: {
                batch_id: readdressed(state, self._credential) for batch_id, state in states.items()
            }
        )
        for state in moved.values():
            self._follow(holding, state)

    def _follow(self, holding: Holding, state: BatchState) -> None:
        """See to it that an open batch has its task, and let that look now if the batch has ended."""
        following = self._followings.get(state.batch_id)
        if following is not None:
            if state.phase == "booking":
                following.wake()
            return
        if state.phase in FOLLOWED and self._holdings.get(holding.partition) is holding:
            following = self._new_following(state.batch_id, holding)
            self._followings[state.batch_id] = following
            self._begin(self._followed(following))

    async def _followed(self, following: Following) -> None:
        try:
            await following.run()
        finally:
            if self._followings.get(following.batch_id) is following:
                del self._followings[following.batch_id]

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _tell_creator(fact: BatchFact) -> None:
    """Say who made a batch whose items are booked to nobody: a report can still be put right by hand."""
    created = fact.fact
    assert isinstance(created, BatchCreated)
    metrics.batch_tracker_late_creators.inc()
    log.error(
        "batch.creator_came_late",
        batch_id=fact.batch_id,
        request_id=created.request_id,
        virtual_key_id=created.attribution.virtual_key_id,
        team_id=created.attribution.team_id,
    )


def _without_items(fact: BatchFact) -> BatchFact:
    """Let go of what a chunk holds: its place is what is kept, and it may be long."""
    if not isinstance(fact.fact, BatchItems):
        return fact
    return replace(fact, fact=replace(fact.fact, items=()))
