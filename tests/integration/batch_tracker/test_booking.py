"""A batch is followed to its end, and each of its items is booked once, to whoever created it."""

import asyncio
from decimal import Decimal

from structlog.testing import capture_logs

from schemas.batches import ItemCounts
from schemas.ids import batch_item_id
from services.local.anthropic.server import SimulatedAnthropic
from services.rating.book.file import load
from services.rating.pricing import rate
from tests.integration.batch_tracker.world import (
    CREATE_ID,
    call,
    chunk,
    config_of,
    create,
    created,
    owned,
    publish,
    saw,
    states,
    tracker,
    until_phase,
    usages,
)

MILLION = 1_000_000


def test_three_items_are_booked_to_whoever_created_them(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one", "errored-two", "expired-three"])
            await publish(kafka, [created(batch, 3, chunks=1), chunk(batch, 0, [owned("one")])])
            async with tracker(kafka, config_of(upstream)):
                state = await until_phase(kafka, batch["id"], "booked")
            assert state.booked == ItemCounts(succeeded=1, errored=1, expired=1)
            assert (state.lines_read, state.malformed, state.chunks) == (3, 0, ())
            events = {event.batch_custom_id: event for event in await usages(kafka, batch["id"])}
            (served,) = upstream.served
            one = events["one"]
            assert {name: event.outcome for name, event in events.items()} == {
                "one": "succeeded",
                "errored-two": "errored",
                "expired-three": "expired",
            }
            assert (one.request_id, one.message_id) == (batch_item_id(batch["id"], "one"), served.message_id)
            assert (one.started_at, one.finished_at) == (state.created_at, state.ended_at)
            assert one.attribution.end_user_id == "user-one"
            assert one.attribution.tags == ("a", "b")
            assert one.attribution.metadata == {"x": "1", "y": "2"}
            assert events["errored-two"].attribution.end_user_id == "creator"

    asyncio.run(run())


def test_a_thousand_items_in_chunks_cost_half_to_the_last_digit(kafka):
    async def run():
        names = [f"item-{number}" for number in range(1000)]
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, names)
            chunks = [
                chunk(batch, part, [owned(name) for name in names[part * 250 : part * 250 + 250]])
                for part in range(4)
            ]
            async with tracker(kafka, config_of(upstream)):
                await publish(kafka, [created(batch, 1000, chunks=4), *chunks])
                await until_phase(kafka, batch["id"], "booked")
            events = await usages(kafka, batch["id"])
            assert {event.attribution.end_user_id for event in events} == {f"user-{name}" for name in names}
            book = load("", "")
            costs = [rate(event, book).cost_usd for event in events]
            # Claude Sonnet 5 in a batch: 1 dollar for a million tokens in, 5 for a million out.
            expected = sum(
                Decimal(each.usage.input_tokens + 5 * each.usage.output_tokens) for each in upstream.served
            )
            assert (len(events), sum(costs)) == (1000, expected / MILLION)

    asyncio.run(run())


def test_facts_that_come_again_change_nothing(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one", "two"])
            facts = [created(batch, 2, chunks=1), chunk(batch, 0, [owned("one")])]
            await publish(kafka, facts)
            async with tracker(kafka, config_of(upstream)):
                state = await until_phase(kafka, batch["id"], "booked")
                ended = (await call(upstream, "GET", f"/{batch['id']}")).json()
                other = await create(upstream, ["three"])
                await publish(kafka, [*facts, saw(ended), created(other, 1)])
                await until_phase(kafka, other["id"], "booked")
            async with tracker(kafka, config_of(upstream)):
                another = await create(upstream, ["four"])
                await publish(kafka, [*facts, created(another, 1)])
                await until_phase(kafka, another["id"], "booked")
            assert (await states(kafka))[batch["id"]] == state
            assert len(await usages(kafka, batch["id"])) == 2

    asyncio.run(run())


def test_a_client_that_sees_the_end_wakes_the_tracker(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one"], simulate="batch-seconds=3600")
            async with tracker(kafka, config_of(upstream, poll_s_min=3600.0, poll_s_max=3600.0)):
                await publish(kafka, [created(batch, 1), saw(batch)])
                await until_phase(kafka, batch["id"], "waiting")
                upstream.finish_batch(batch["id"])
                await publish(kafka, [saw((await call(upstream, "GET", f"/{batch['id']}")).json())])
                await until_phase(kafka, batch["id"], "booked")

    asyncio.run(run())


def test_a_batch_under_a_callers_own_key_is_not_asked_for(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            own, other = await create(upstream, ["one"]), await create(upstream, ["two"])
            before = len(upstream.received)
            async with tracker(kafka, config_of(upstream)):
                await publish(kafka, [created(own, 1, credential=""), created(other, 1, credential="second")])
                await until_phase(kafka, own["id"], "own_key")
                await until_phase(kafka, other["id"], "other_credential")
            assert len(upstream.received) == before

    asyncio.run(run())


def test_a_batch_that_nobody_announced_is_found_and_booked_as_unattributed(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one", "two"])
            async with tracker(kafka, config_of(upstream, list_interval_s=0.2)):
                state = await until_phase(kafka, batch["id"], "booked")
            assert (state.is_adopted, state.requests) == (True, 2)
            keys = {event.attribution.virtual_key_id for event in await usages(kafka, batch["id"])}
            assert keys == {"unattributed"}

    asyncio.run(run())


def test_a_creator_who_comes_after_the_items_were_booked_is_named_and_they_stay(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one", "two"])
            async with tracker(kafka, config_of(upstream, list_interval_s=0.2)):
                state = await until_phase(kafka, batch["id"], "booked")
                other = await create(upstream, ["three"])
                await publish(kafka, [created(batch, 2), created(other, 1)])
                await until_phase(kafka, other["id"], "booked")
            assert (await states(kafka))[batch["id"]] == state
            events = await usages(kafka, batch["id"])
            assert [event.attribution.virtual_key_id for event in events] == ["unattributed"] * 2
            return batch["id"]

    with capture_logs() as logged:
        batch_id = asyncio.run(run())
    # The other batch may have been found, and booked, before its creator was told of.
    (line,) = [
        each for each in logged if each["event"] == "batch.creator_came_late" and each["batch_id"] == batch_id
    ]
    assert line == {
        "event": "batch.creator_came_late",
        "log_level": "error",
        "batch_id": batch_id,
        "request_id": CREATE_ID,
        "virtual_key_id": "vk_creator",
        "team_id": "t",
    }


def test_an_answer_that_passed_the_edge_makes_a_batch_known(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            ours, theirs = await create(upstream, ["one"]), await create(upstream, ["two"])
            async with tracker(kafka, config_of(upstream)):
                await publish(kafka, [saw(theirs, credential=""), saw(ours)])
                await until_phase(kafka, ours["id"], "booked")
            known = await states(kafka)
            assert (ours["id"] in known, theirs["id"] in known) == (True, False)

    asyncio.run(run())
