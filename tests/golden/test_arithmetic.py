"""The written sums are worked out rightly, and what is no sum is refused."""

from decimal import Decimal, Inexact

import pytest

from tests.golden.arithmetic import worked_out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("1000 * 2 / 1e6", "0.002"),
        ("1000 * 2 / 1e6 + 500 * 10 / 1e6", "0.007"),
        ("(1000 * 2 + 500 * 10) / 1e6 * 0.5 * 1.1", "0.00385"),
        ("10 - 2 * 3", "4"),
        ("2 * (3 + 4) * 5", "70"),
        ("7 * 0.01 / 1e6", "0.00000007"),
    ],
)
def test_a_sum_has_its_value(text, value):
    assert worked_out(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1 +", "(1", "1 2", "1 ** 2", "a", "-1", "1)", "1_000"])
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        worked_out(text)


def test_a_sum_that_cannot_be_written_down_is_refused():
    with pytest.raises(Inexact):
        worked_out("1 / 3")
