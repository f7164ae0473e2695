"""When a consumer stops because too much of what comes is unusable."""

import pytest

from services.runtime.dead_limits import DEAD_IN_A_ROW_MAX, WINDOW_RECORDS, DeadLimits
from services.runtime.errors import ServiceStopped


def test_a_thousand_in_a_row_are_the_limit_and_one_usable_record_begins_anew():
    limits = DeadLimits("rating")
    limits.check(DEAD_IN_A_ROW_MAX, DEAD_IN_A_ROW_MAX)
    limits.check(2, 1)
    for _ in range(DEAD_IN_A_ROW_MAX):
        limits.check(1, 1)
    with pytest.raises(ServiceStopped, match="1001 records in a row were unusable for rating"):
        limits.check(1, 1)


def test_one_in_a_hundred_may_be_dead_for_ever():
    limits = DeadLimits("rating")
    for _ in range(1_000):
        limits.check(100, 1)


def test_more_than_that_in_the_latest_ten_thousand_is_too_much():
    limits = DeadLimits("rating")
    for _ in range(WINDOW_RECORDS // 100 - 1):
        limits.check(100, 2)
    with pytest.raises(ServiceStopped, match="200 of the last 10000 records were unusable for rating, more"):
        limits.check(100, 2)


def test_what_was_long_ago_is_forgotten():
    limits = DeadLimits("rating")
    limits.check(2_000, 90)
    for _ in range(200):
        limits.check(100, 0)
    limits.check(2_000, 90)


def test_a_few_at_the_beginning_are_not_judged_as_a_share():
    limits = DeadLimits("rating")
    limits.check(10, 9)
    limits.check(WINDOW_RECORDS - 10, 90)
