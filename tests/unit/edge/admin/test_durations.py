"""Durations as LiteLLM's operators write them."""

from datetime import UTC, datetime

import pytest

from services.edge.admin.durations import after, is_duration

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)),
        ("30m", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
        ("30h", datetime(2026, 2, 1, 18, tzinfo=UTC)),
        ("30d", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 2, 14, 12, tzinfo=UTC)),
        ("1mo", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("13mo", datetime(2027, 2, 28, 12, tzinfo=UTC)),
    ],
)
def test_a_duration_leads_to_its_end(text, expected):
    assert after(START, text) == expected
    assert is_duration(text)


@pytest.mark.parametrize("text", ["", "30", "s", "0d", "-1d", "1.5h", "30D", "1y", "1d2h", "9999999d"])
def test_anything_else_is_none(text):
    with pytest.raises(ValueError):
        after(START, text)
    assert not is_duration(text)


@pytest.mark.parametrize("text", ["999999d", "999999mo", "999999w"])
def test_an_end_that_nobody_will_see_is_refused(text):
    with pytest.raises(ValueError, match="100 years"):
        after(START, text)
