"""Ids: minted ones carry their time, derived ones come out the same for ever."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from schemas import ids
from schemas.ids import RequestId


def test_the_derived_ids_are_pinned():
    """They stand in records, rows and tallies: a release that derives them otherwise counts things twice."""
    assert str(ids.NAMESPACE) == "6f1c2a0e-6d0a-5a53-9c8e-4f2b7d1e9a40"
    assert (
        ids.batch_item_id("msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d", "item-1")
        == "318b1cd6-d7c2-5a1b-a3a9-706f03987b6d"
    )
    assert (
        ids.rated_id(RequestId("0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"), 1)
        == "4a3bbf5d-3602-5a83-a9d3-b82b56ecc81e"
    )
    assert (
        ids.rated_id(RequestId("0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3"), 2)
        == "feb5e584-efb7-5eb9-bee9-96c58e4bc2be"
    )


def test_a_derived_id_is_a_uuid5_of_its_parts_in_order():
    assert uuid.UUID(ids.batch_item_id("a", "b")).version == 5
    assert ids.batch_item_id("a", "b") != ids.batch_item_id("b", "a")
    assert ids.rated_id(RequestId("a"), 12) != ids.rated_id(RequestId("a1"), 2)


def test_a_request_id_is_laid_out_as_a_uuid7():
    minted = ids.new_request_id(0x0123_4567_89AB)
    assert minted[:15] == "01234567-89ab-7"
    assert minted[19] in "89ab"
    assert [len(part) for part in minted.split("-")] == [8, 4, 4, 4, 12]
    parsed = uuid.UUID(minted)
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, minted)


def test_ids_of_one_millisecond_differ():
    assert len({ids.new_request_id(1_795_339_800_000) for _ in range(1000)}) == 1000


def test_ids_of_a_later_millisecond_sort_behind():
    minted = [ids.new_request_id(1_795_339_800_000 + step) for step in range(1000)]
    assert minted == sorted(minted)


@pytest.mark.parametrize("mint", [ids.new_edge_id, ids.new_source_id])
def test_ids_of_edges_and_spools_carry_the_time_of_now(mint: Callable[[], str]):
    before_ms = time.time_ns() // 1_000_000
    minted = uuid.UUID(mint())
    assert minted.version == 7
    assert before_ms <= minted.int >> 80 <= time.time_ns() // 1_000_000


def test_the_time_of_minting_is_read_back_to_the_millisecond():
    minted = ids.new_request_id(1_795_339_800_123)
    assert ids.time_of(minted) == datetime(2026, 11, 22, 9, 30, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "other", [ids.batch_item_id("a", "b"), "0f8b6a52-9f0e-4c4e-8a57-6f6a2b1d3c90", "", "vk_1", "x" * 36]
)
def test_any_other_id_has_no_time(other: str):
    with pytest.raises(ValueError, match=r"not a UUIDv7|badly formed"):
        ids.time_of(RequestId(other))
