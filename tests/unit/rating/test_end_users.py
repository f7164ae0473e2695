"""Who has a metric of their own: the heaviest, a bounded number of them, and always the same ones."""

import random
from decimal import Decimal

import pytest
from prometheus_client import REGISTRY

from services.rating.config import RatingConfig
from services.rating.end_users import OTHER, SHOWN_MAX, EndUserMetrics, TopEndUsers

SEED = 20261122


def labels(top, stream):
    return [top.label(name, weight) for name, weight in stream]


def test_the_first_are_shown_until_there_is_no_more_room():
    assert labels(TopEndUsers(2, 9), [("a", 1), ("b", 1), ("c", 1), ("a", 1)]) == ["a", "b", OTHER, "a"]


def test_who_has_cost_more_takes_the_place_of_the_least_who_is_hidden():
    hidden = []
    top = TopEndUsers(2, 9, hidden.append)
    stream = [("a", 5), ("b", 3), ("c", 2), ("c", 2), ("b", 1), ("b", 9), ("c", 1)]
    assert labels(top, stream) == ["a", "b", OTHER, "c", OTHER, "b", OTHER]
    assert hidden == ["b", "c"]


def test_no_end_user_is_no_name_and_takes_no_place():
    assert labels(TopEndUsers(1, 9), [("", 9), ("a", 1), ("", 9)]) == ["", "a", ""]


def test_an_end_user_who_is_called_other_is_among_the_others():
    assert labels(TopEndUsers(1, 9), [(OTHER, 9), ("a", 1)]) == [OTHER, "a"]


def test_names_that_somebody_makes_up_push_nobody_out():
    """A place taken over from another brings its count along, which shows nobody."""
    hidden = []
    top = TopEndUsers(2, 4, hidden.append)
    labels(top, [("a", 50), ("b", 40)])
    assert set(labels(top, [(f"made-up {n}", 1) for n in range(1000)])) == {OTHER}
    assert (hidden, labels(top, [("a", 1), ("b", 1)])) == ([], ["a", "b"])
    assert len(top._counts) == 4


def test_the_heaviest_of_many_are_shown_the_same_every_time():
    generator = random.Random(SEED)
    heavy = [f"heavy {n}" for n in range(5)]
    stream = [(generator.choice(heavy), 50) for _ in range(400)]
    stream += [(f"light {generator.randrange(500)}", 1) for _ in range(2000)]
    generator.shuffle(stream)
    shown = [labels(TopEndUsers(5, 50), stream) for _ in range(2)]
    assert shown[0] == shown[1]
    assert set(shown[0][-500:]) == {*heavy, OTHER}, f"seed {SEED}"


def series():
    return {
        sample.labels["end_user"]: sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "rating_end_user_cost_usd_total"
    }


def test_there_are_never_more_series_than_a_hundred_others_and_nobody():
    metrics = EndUserMetrics()
    metrics.count("", Decimal("0.5"))
    for number in range(3 * SHOWN_MAX):
        metrics.count(f"user {number:03}", Decimal(number))
    metrics.count("user 000", Decimal(1))
    shown = series()
    assert len(shown) == SHOWN_MAX + 2
    assert {"", OTHER, "user 299"} <= shown.keys()
    assert shown["user 299"] == 299.0
    for name in shown.keys() - {"", OTHER}:
        metrics._top._hide(name)


@pytest.mark.parametrize(
    ("enabled", "disabled", "shown"),
    [(False, False, False), (True, False, True), (True, True, False), (False, True, False)],
)
def test_end_users_are_on_metrics_only_where_that_is_asked_for_and_not_forbidden(enabled, disabled, shown):
    config = RatingConfig(
        enable_end_user_cost_tracking_prometheus_only=enabled,
        disable_end_user_cost_tracking_prometheus_only=disabled,
    )
    assert config.shows_end_users is shown
