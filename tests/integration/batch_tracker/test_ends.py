"""However a batch ends, the state says how, and nothing is passed over in silence."""

import asyncio

import pytest

from schemas.batches import BatchCounts, ItemCounts
from services.batch_tracker.anthropic import LINE_BYTES_MAX
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.batch_tracker.scripted import ScriptedApi, succeeded
from tests.integration.batch_tracker.world import (
    call,
    config_of,
    create,
    created,
    deleted,
    publish,
    tracker,
    until_phase,
    usages,
)


def test_results_that_are_gone(kafka):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one"])
            upstream.advance(30 * 24 * 3600)
            await publish(kafka, [created(batch, 1)])
            async with tracker(kafka, config_of(upstream)):
                state = await until_phase(kafka, batch["id"], "gone")
            assert state.error == "Anthropic no longer has the batch or its results"
            assert await usages(kafka, batch["id"]) == []

    asyncio.run(run())


@pytest.mark.parametrize(("is_told", "phase"), [(True, "deleted"), (False, "gone")])
def test_a_batch_that_was_deleted(kafka, is_told, phase):
    async def run():
        async with SimulatedAnthropic.running() as upstream:
            batch = await create(upstream, ["one"])
            assert (await call(upstream, "DELETE", f"/{batch['id']}")).status_code == 200
            await publish(kafka, [created(batch, 1), *([deleted(batch)] if is_told else [])])
            async with tracker(kafka, config_of(upstream)):
                await until_phase(kafka, batch["id"], phase)

    asyncio.run(run())


def test_a_refused_credential_is_said_and_asked_with_again(kafka, monkeypatch):
    monkeypatch.setattr("services.batch_tracker.policy.NO_ACCESS_S", 0.1)

    async def run():
        api = ScriptedApi()
        api.batch_answers = [401]
        api.results_answers = [[succeeded("one")]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 1)])
            async with tracker(kafka, config_of(api)):
                state = await until_phase(kafka, api.batch_id, "no_access")
                assert state.error == "Anthropic answered 401"
                api.batch_answers = [api.batch(succeeded=1)]
                await until_phase(kafka, api.batch_id, "booked")

    asyncio.run(run())


def test_lines_that_are_none_are_booked_without_a_price_and_the_rest_goes_on(kafka):
    async def run():
        api = ScriptedApi()
        api.batch_answers = [api.batch(succeeded=4)]
        unknown = b'{"custom_id":"x","result":{"type":"of_tomorrow"}}'
        api.results_answers = [[succeeded("one"), b"{broken", unknown, succeeded("two")]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 4)])
            async with tracker(kafka, config_of(api)):
                state = await until_phase(kafka, api.batch_id, "unreadable")
        assert (state.malformed, state.booked, state.lines_read) == (2, ItemCounts(succeeded=2), 4)
        assert state.error == "2 lines of the results are none"
        events = sorted(await usages(kafka, api.batch_id), key=lambda event: event.source_seq)
        assert [(event.batch_custom_id, event.usage_status, event.error_type) for event in events] == [
            ("one", "final", ""),
            ("line 2", "none", "unreadable_result"),
            ("line 3", "none", "unreadable_result"),
            ("two", "final", ""),
        ]

    asyncio.run(run())


def test_a_line_beyond_its_limit_is_passed_over_without_being_held(kafka):
    async def run():
        api = ScriptedApi()
        api.batch_answers = [api.batch(succeeded=3)]
        api.results_answers = [[succeeded("one"), b"x" * (LINE_BYTES_MAX + 1), succeeded("two")]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 3)])
            async with tracker(kafka, config_of(api)):
                state = await until_phase(kafka, api.batch_id, "unreadable")
        assert (state.malformed, state.booked, state.lines_read) == (1, ItemCounts(succeeded=2), 3)

    asyncio.run(run())


def test_results_that_do_not_agree_with_the_counts_are_read_again_and_then_flagged(kafka):
    async def run():
        api = ScriptedApi()
        api.batch_answers = [api.batch(succeeded=2)]
        api.results_answers = [[succeeded("one")]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 2)])
            async with tracker(kafka, config_of(api)):
                state = await until_phase(kafka, api.batch_id, "mismatch")
        assert (state.booked, state.counts) == (ItemCounts(succeeded=1), BatchCounts(succeeded=2))
        assert sum(path.endswith("/results") for path in api.asked) == 3
        assert len(await usages(kafka, api.batch_id)) == 1

    asyncio.run(run())


def test_results_that_come_in_another_order_are_booked_whole(kafka):
    async def run():
        api = ScriptedApi()
        api.batch_answers = [api.batch(succeeded=3)]
        one, two, three = (succeeded(name) for name in ("one", "two", "three"))
        api.results_answers = [[one, two], [three, one, two]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 3)])
            async with tracker(kafka, config_of(api)):
                await until_phase(kafka, api.batch_id, "booked")
        events = await usages(kafka, api.batch_id)
        assert {event.batch_custom_id for event in events} == {"one", "two", "three"}

    asyncio.run(run())


def test_a_busy_api_is_asked_again_when_it_said(kafka):
    async def run():
        api = ScriptedApi()
        busy = (529, b"{}", ("retry-after-ms: 50",))
        api.batch_answers = [busy, (200, b"no json", ()), 500, api.batch(succeeded=1)]
        api.results_answers = [503, [succeeded("one")]]
        async with api.running():
            await publish(kafka, [created(api.batch(), 1)])
            async with tracker(kafka, config_of(api)):
                await until_phase(kafka, api.batch_id, "booked")
        assert len(await usages(kafka, api.batch_id)) == 1

    asyncio.run(run())
