"""When a batch is looked at next."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.batches import ChunkPlace
from services.batch_tracker.config import BatchTrackerConfig, UpstreamConfig
from services.batch_tracker.policy import booking_wait_s, jittered, wait_s
from tests.unit.batch_tracker.test_state import BOOKING, CREATED_AT, ENDED_AT, WAITING

CONFIG = BatchTrackerConfig()


def at(**ago):
    return CREATED_AT + timedelta(**ago)


@pytest.mark.parametrize(
    ("age", "failures", "expected"),
    [
        ({"seconds": 0}, 0, 5),
        ({"seconds": 50}, 0, 5),
        ({"minutes": 10}, 0, 60),
        ({"hours": 1}, 0, 300),
        ({"days": 20}, 0, 300),
        ({"seconds": 0}, 1, 10),
        ({"seconds": 0}, 3, 40),
        ({"hours": 1}, 20, 300),
        ({"seconds": -30}, 0, 5),
    ],
)
def test_a_batch_is_looked_at_every_tenth_of_its_age(age, failures, expected):
    assert wait_s(WAITING, at(**age), failures, CONFIG) == expected


def test_a_refused_credential_is_tried_every_hour():
    assert wait_s(replace(WAITING, phase="no_access"), at(seconds=1), 0, CONFIG) == 3600


@given(st.floats(0, 1), st.floats(0, 10_000))
def test_jitter_stays_within_a_fifth(random, seconds):
    assert seconds * 0.799 <= jittered(seconds, random) <= seconds * 1.201


@pytest.mark.parametrize(
    ("state", "now", "expected"),
    [
        (replace(BOOKING, item_chunks=0), ENDED_AT, 0),
        (replace(BOOKING, item_chunks=1), ENDED_AT + timedelta(minutes=59), 60),
        (replace(BOOKING, item_chunks=1), ENDED_AT + timedelta(minutes=61), 0),
        (
            replace(BOOKING, item_chunks=1, chunks=(ChunkPlace(chunk=0, partition=4, offset=1),)),
            ENDED_AT,
            0,
        ),
        (replace(BOOKING, item_chunks=0, is_adopted=True), at(minutes=9), 60),
        (replace(BOOKING, item_chunks=0, is_adopted=True), at(minutes=11), 0),
    ],
)
def test_booking_waits_for_items_and_creators_that_may_still_come(state, now, expected):
    assert booking_wait_s(state, now, CONFIG) == expected


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"group_id": ""}, "group_id: must not be empty"),
        ({"port": 70_000}, "port: must lie between 0 and 65535"),
        ({"poll_s_min": 0.0}, "poll_s_min: must be above 0"),
        ({"poll_s_max": 1.0}, "poll_s_max: must not be below poll_s_min"),
        ({"requests_per_minute_max": 0}, "requests_per_minute_max: must be above 0"),
        ({"bookings_max": 0}, "bookings_max: must be above 0"),
        ({"adopt_grace_s": -1.0}, "adopt_grace_s: must not be below 0"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, fault):
    assert list(BatchTrackerConfig(**changes).faults()) == [fault]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": ""}, "name: must not be empty"),
        ({"base_url": "ftp://x"}, "base_url: must be an http or https address"),
        ({"base_url": "http://a:b@x"}, "base_url: must not carry a query, a fragment or credentials"),
        ({"base_url": "http://[x"}, "base_url: is not an address"),
        (
            {"api_key": "sk-secret\n"},
            "api_key: holds a character that no key has (a space or a line end?)",
        ),
        ({"read_s_max": 0.0}, "read_s_max: must be above 0"),
    ],
)
def test_an_upstream_that_cannot_work_is_named(changes, fault):
    assert list(UpstreamConfig(**changes).faults()) == [fault]


def test_settings_show_no_secret():
    upstream = UpstreamConfig(api_key="sk-secret", auth_token="sk-secret")
    assert "sk-secret" not in repr(BatchTrackerConfig(upstream=upstream)) + repr(upstream)
    assert (upstream.credential, UpstreamConfig().credential) == ("default", "")
