"""Reads durations as LiteLLM's operators write them: 30s, 30m, 30h, 30d, 2w, 1mo."""

import calendar
import re
from datetime import datetime, timedelta

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|mo)")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
# LiteLLM's word for a key that never expires.
ENDLESS = "-1"
# Beyond this a date is a mistake, and at some point no date at all.
YEARS_MAX = 100
HINT = "must be a number and s, m, h, d, w or mo, such as 30d"


def is_duration(text: str) -> bool:
    """Say whether this is a duration at all."""
    return _DURATION.fullmatch(text) is not None


def after(start: datetime, text: str) -> datetime:
    """Give the time that lies so much later; ValueError where the text is no duration, or goes too far."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(HINT)
    count, unit = int(found[1]), found[2]
    try:
        end = _months_after(start, count) if unit == "mo" else start + count * _UNITS[unit]
    except OverflowError:
        end = None
    if end is None or end.year > start.year + YEARS_MAX:
        raise ValueError(f"must not go beyond {YEARS_MAX} years")
    return end


def _months_after(start: datetime, months: int) -> datetime:
    """Go to the same day of a later month, or to its last one."""
    if months > 12 * YEARS_MAX + 12:
        raise OverflowError
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)
