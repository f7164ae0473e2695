"""Trackers die, wake too late and hand over; no total changes."""

import asyncio
import contextlib
import os
import random

from schemas import codec, topics
from schemas.batches import BatchState
from services.local.anthropic.server import SimulatedAnthropic
from services.runtime.publisher import Publisher
from services.runtime.records import OutgoingRecord
from tests.integration.batch_tracker.world import (
    WAIT_S,
    TrackerProcess,
    chunk,
    config_of,
    create,
    created,
    owned,
    publish,
    states,
    tracker,
    until_phase,
    usages,
)
from tests.integration.runtime.clients import read_all

ITEMS = 2_500


async def published(kafka):
    """How many usage events there are by now."""
    return len(await read_all(kafka, topics.USAGE, 12))


async def until_published(kafka, count):
    async with asyncio.timeout(WAIT_S):
        while await published(kafka) < count:  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.01)


def test_a_tracker_that_is_killed_anywhere_changes_no_total(own_kafka, tmp_path):
    kafka = own_kafka
    seed = int(os.environ.get("TOLLHOUSE_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}: repeat it with TOLLHOUSE_TEST_SEED")
    dice = random.Random(seed)

    async def run():
        async with SimulatedAnthropic.running(seed=seed) as upstream:
            names = [f"item-{number}" for number in range(ITEMS)]
            batch = await create(upstream, names)
            facts = [created(batch, ITEMS, chunks=1), chunk(batch, 0, [owned(name) for name in names])]
            await publish(kafka, facts)
            asked = len(upstream.received)
            # A lasting name in the group: its partitions come back at once, not after the session's time-out.
            lasting = {"group_instance_id": "tracker-1"}
            for point in (
                lambda: upstream.until_received(asked + 1, WAIT_S),
                lambda: until_published(kafka, dice.randrange(1, 1_000)),
                lambda: until_published(kafka, dice.randrange(1_001, ITEMS)),
            ):
                process = TrackerProcess(kafka, upstream, tmp_path, **lasting)
                await point()
                process.kill()
            async with tracker(kafka, config_of(upstream, **lasting)):
                state = await until_phase(kafka, batch["id"], "booked")
            events = await usages(kafka, batch["id"])
            # Every copy of an event is the same, so that whoever keeps one of them keeps the right one.
            assert {codec.encode(event) for event in events} == {
                codec.encode(event) for event in {event.request_id: event for event in events}.values()
            }
            by_id = {event.request_id: event for event in events}
            assert (len(by_id), state.booked.succeeded, len(state.chunks)) == (ITEMS, ITEMS, 0)
            used = sum(event.tokens.output_tokens for event in by_id.values())
            assert used == sum(each.usage.output_tokens for each in upstream.served)
            assert {event.attribution.end_user_id for event in by_id.values()} == {
                f"user-{name}" for name in names
            }

    asyncio.run(run())


def test_two_trackers_share_the_batches_and_hand_over(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream, contextlib.AsyncExitStack() as stack:
            batches = [await create(upstream, ["one"], simulate="batch-seconds=3600") for _ in range(12)]
            await publish(kafka, [created(batch, 1) for batch in batches])
            first, second = config_of(upstream), config_of(upstream)
            await stack.enter_async_context(tracker(kafka, first))
            async with tracker(kafka, second):
                for batch in batches:
                    await until_phase(kafka, batch["id"], "waiting")
                for batch in batches[:6]:
                    upstream.finish_batch(batch["id"])
                for batch in batches[:6]:
                    await until_phase(kafka, batch["id"], "booked")
            for batch in batches[6:]:
                upstream.finish_batch(batch["id"])
                await until_phase(kafka, batch["id"], "booked")
            assert {len(await usages(kafka, batch["id"])) for batch in batches} == {1}

    asyncio.run(run())


def test_a_state_that_a_zombie_wrote_behind_its_successor_does_not_hold(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one"])
            await publish(kafka, [created(batch, 1)])
            async with tracker(kafka, config_of(upstream)):
                state = await until_phase(kafka, batch["id"], "booked")
            await _write_again(kafka, batch["id"], 1)
            async with tracker(kafka, config_of(upstream)):
                assert await until_phase(kafka, batch["id"], "booked") == state
            assert len(await usages(kafka, batch["id"])) == 1

    asyncio.run(run())


async def _write_again(kafka, batch_id, version):
    """Append an old state of a batch, as a zombie would, behind what its successor wrote."""
    for record in await read_all(kafka, topics.BATCHES, 6):
        if record.key.decode() == batch_id and codec.decode(BatchState, record.value).version == version:
            old = OutgoingRecord(topics.BATCHES, record.key, record.value, record.headers)
    publisher = Publisher(kafka)
    await publisher.publish([old])
    await publisher.close()
    assert (await states(kafka))[batch_id].version == version
