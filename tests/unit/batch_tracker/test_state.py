"""What facts make of a batch's state."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import codec
from schemas.attribution import Attribution
from schemas.batch_items import BatchOfItems
from schemas.batches import (
    BatchCounts,
    BatchCreated,
    BatchDeleted,
    BatchFact,
    BatchItem,
    BatchItems,
    BatchSeen,
    BatchState,
    ChunkPlace,
)
from schemas.rated import row_version
from services.batch_tracker.results import NONE_READ, ResultsReader
from services.batch_tracker.state import (
    FactPlace,
    adoption,
    after,
    closed,
    is_late_creator,
    missing,
    readdressed,
    refused,
    seen,
)

AT = datetime(2026, 11, 22, 8, tzinfo=UTC)
CREATED_AT = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)
EXPIRES_AT = CREATED_AT + timedelta(hours=24)
ENDED_AT = CREATED_AT + timedelta(hours=1)
HERE = FactPlace(4, 17)
CREATED = BatchCreated(
    created_at=CREATED_AT,
    expires_at=EXPIRES_AT,
    requests=2,
    attribution=Attribution(virtual_key_id="vk_1"),
    credential="default",
    request_id="0193524b-6000-7abc-8def-000000000002",
    models=("m",),
    item_chunks=2,
    anthropic_version="v",
    anthropic_beta="b",
)
RUNNING = BatchSeen(
    status="in_progress",
    created_at=CREATED_AT,
    expires_at=EXPIRES_AT,
    credential="default",
    counts=BatchCounts(processing=2),
)
CANCELING = replace(RUNNING, status="canceling")
ENDED = replace(RUNNING, status="ended", ended_at=ENDED_AT, counts=BatchCounts(succeeded=2))
WAITING = BatchState(
    batch_id="msgbatch_1",
    version=0,
    at=AT,
    phase="waiting",
    status="in_progress",
    created_at=CREATED_AT,
    expires_at=EXPIRES_AT,
    requests=2,
    attribution=Attribution(virtual_key_id="vk_1"),
    credential="default",
    request_id="0193524b-6000-7abc-8def-000000000002",
    models=("m",),
    anthropic_version="v",
    anthropic_beta="b",
    item_chunks=2,
)
BOOKING = replace(
    WAITING, phase="booking", status="ended", ended_at=ENDED_AT, counts=BatchCounts(succeeded=2)
)
BY_NOBODY = Attribution(virtual_key_id="unattributed")


def fact(what):
    return BatchFact(batch_id="msgbatch_1", at=AT, edge_id="e", fact=what)


def then(state, *facts, credential="default"):
    for number, each in enumerate(facts):
        state = after(state, fact(each), FactPlace(4, number), credential)
    return state


def test_a_batch_begins_with_the_fact_of_its_creation():
    assert then(None, CREATED) == WAITING


@pytest.mark.parametrize(
    ("credential", "held", "phase"),
    [
        ("default", "default", "waiting"),
        ("second", "default", "other_credential"),
        ("default", "", "other_credential"),
        ("", "default", "own_key"),
        ("", "", "own_key"),
    ],
)
def test_only_batches_under_the_credential_held_are_followed(credential, held, phase):
    state = then(None, replace(CREATED, credential=credential), credential=held)
    assert (state.phase, state.credential) == (phase, credential)


@pytest.mark.parametrize(
    ("facts", "phase", "status"),
    [
        ([RUNNING], "waiting", "in_progress"),
        ([CANCELING], "waiting", "canceling"),
        ([CANCELING, RUNNING], "waiting", "canceling"),
        ([ENDED], "booking", "ended"),
        ([ENDED, RUNNING], "booking", "ended"),
        ([ENDED, CANCELING, CREATED], "booking", "ended"),
        ([BatchDeleted()], "deleted", "deleted"),
        ([ENDED, BatchDeleted()], "booking", "deleted"),
        ([BatchDeleted(), ENDED], "deleted", "deleted"),
    ],
)
def test_a_status_never_goes_backwards(facts, phase, status):
    state = then(None, CREATED, *facts)
    assert (state.phase, state.status) == (phase, status)


def test_the_end_brings_times_and_counts():
    assert then(WAITING, ENDED) == BOOKING


FACTS = [CREATED, BatchItems(chunk=0, items=()), BatchItems(chunk=1, items=()), RUNNING, CANCELING, ENDED]


@given(st.lists(st.sampled_from(FACTS), max_size=12))
def test_facts_that_come_again_change_nothing(facts):
    once = then(None, CREATED, *facts)
    assert then(once, *[each for each in facts if not isinstance(each, BatchItems)]) == once


@given(st.permutations(FACTS))
def test_a_known_batch_comes_to_the_same_whatever_the_order(facts):
    state = then(WAITING, *facts)
    assert replace(state, chunks=()) == BOOKING
    assert [place.chunk for place in state.chunks] == [0, 1]


def test_a_chunk_is_kept_by_its_place_and_the_first_of_two_holds():
    chunk = fact(BatchItems(chunk=1, items=()))
    state = after(WAITING, chunk, FactPlace(4, 20), "default")
    assert state.chunks == (ChunkPlace(chunk=1, partition=4, offset=20),)
    assert after(state, chunk, FactPlace(4, 30), "default") == state


@pytest.mark.parametrize("what", [BatchItems(chunk=0, items=()), BatchDeleted()])
def test_a_fact_that_tells_of_no_batch_makes_none_known(what):
    assert then(None, what) is None


def test_a_batch_that_is_only_seen_is_adopted_where_it_is_ours():
    state = then(None, ENDED)
    assert (state.phase, state.is_adopted, state.requests) == ("booking", True, 2)
    assert (state.attribution, state.request_id) == (BY_NOBODY, "")
    assert then(None, ENDED, credential="second") is None
    assert then(None, replace(ENDED, credential=""), credential="") is None


def test_a_creator_who_comes_in_time_takes_an_adopted_batch():
    state = then(None, ENDED, CREATED)
    assert state == replace(BOOKING, at=AT)


def test_a_creator_who_comes_late_is_noticed_and_changes_nothing():
    state = replace(then(None, ENDED), lines_read=1)
    assert is_late_creator(state, fact(CREATED))
    assert then(state, CREATED) == state
    assert not is_late_creator(BOOKING, fact(CREATED))
    assert not is_late_creator(None, fact(CREATED))


def test_an_item_that_is_booked_to_somebody_else_has_no_higher_rank():
    """Why a late creator changes nothing: the README of the batch tracker has the rest."""
    batch = BatchOfItems(
        batch_id="msgbatch_1",
        created_at=CREATED_AT,
        ended_at=ENDED_AT,
        attribution=BY_NOBODY,
        models=(),
    )
    line = b'{"custom_id": "one", "result": {"type": "expired"}}'
    nobodys, creators = (
        ResultsReader(each, lambda name: BatchItem(custom_id=name), NONE_READ).take(line)
        for each in (batch, batch._replace(attribution=CREATED.attribution))
    )
    assert nobodys.request_id == creators.request_id
    assert row_version(nobodys, 7) == row_version(creators, 7)
    assert codec.key(nobodys) != codec.key(creators)


@pytest.mark.parametrize("phase", ["mismatch", "unreadable", "gone"])
def test_adopting_tries_a_bad_end_again(phase):
    state = closed(BOOKING, phase, AT, "why")
    reopened = then(state, adoption(ENDED))
    assert reopened == replace(BOOKING, phase="waiting")
    assert then(state, adoption(ENDED), ENDED) == BOOKING


@pytest.mark.parametrize("phase", ["booked", "deleted"])
def test_a_good_end_stays(phase):
    state = closed(BOOKING, phase, AT)
    facts = (adoption(ENDED), CREATED, ENDED, BatchDeleted(), BatchItems(chunk=0, items=()))
    for order in itertools.islice(itertools.permutations(facts), 20):
        assert then(state, *order) == state


def test_a_refused_credential_is_forgotten_when_it_is_taken_again():
    state = refused(WAITING, "Anthropic answered 401")
    assert (state.phase, state.error) == ("no_access", "Anthropic answered 401")
    assert seen(state, RUNNING).phase == "waiting"
    assert seen(state, ENDED) == BOOKING


def test_what_is_missing_was_deleted_or_is_gone():
    assert (missing(BOOKING, AT).phase, missing(BOOKING, AT).closed_at) == ("gone", AT)
    assert missing(then(BOOKING, BatchDeleted()), AT).phase == "deleted"


def test_only_a_booked_batch_lets_go_of_its_chunks():
    place = ChunkPlace(chunk=0, partition=4, offset=1)
    held = replace(BOOKING, chunks=(place,))
    assert closed(held, "booked", AT).chunks == ()
    assert closed(held, "mismatch", AT).chunks == (place,)


@pytest.mark.parametrize(
    ("state", "held", "phase"),
    [
        (WAITING, "default", "waiting"),
        (WAITING, "second", "other_credential"),
        (replace(WAITING, phase="other_credential"), "default", "waiting"),
        (replace(BOOKING, phase="other_credential"), "default", "booking"),
        (closed(BOOKING, "booked", AT), "second", "booked"),
    ],
)
def test_another_credential_takes_batches_up_and_lays_them_down(state, held, phase):
    assert readdressed(state, held).phase == phase
