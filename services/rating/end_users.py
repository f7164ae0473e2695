"""Chooses the end users that have a metric of their own: at most a hundred, by what they have cost.

Holds a bounded number of counts, and never gives a series for every name that a client can make up.
"""

from collections.abc import Callable
from decimal import Decimal

from services.runtime import metrics

SHOWN_MAX = 100
# Whose cost is counted to find the next to be shown; beyond these the smallest gives its place.
COUNTED_MAX = 1000
OTHER = "other"

_PICO = Decimal(10) ** 12

Move = Callable[[str], None]


class TopEndUsers:
    """The heaviest end users of a stream, by the space-saving algorithm of Metwally and others.

    A newcomer takes the place of the smallest count and goes on from it; that part is not its own, so only
    what is beyond it lets a name be shown. The same stream gives the same names.
    """

    def __init__(self, shown_max: int, counted_max: int, hide: Move = lambda _: None) -> None:
        self._shown_max = shown_max
        self._counted_max = counted_max
        self._hide = hide
        self._counts: dict[str, int] = {}
        self._taken_over: dict[str, int] = {}
        self._shown: set[str] = set()

    def label(self, end_user: str, weight: int) -> str:
        """Add to an end user's count and say under which name it is shown; one who is no more is hidden."""
        if not end_user:
            return ""
        if end_user not in self._counts and len(self._counts) >= self._counted_max:
            self._replace_smallest(end_user)
        self._counts[end_user] = self._counts.get(end_user, 0) + weight
        if end_user in self._shown:
            return end_user
        return end_user if end_user != OTHER and self._is_let_in(end_user) else OTHER

    def _replace_smallest(self, end_user: str) -> None:
        # Those that are shown are the largest, so the one that goes is none of them.
        smallest = min(
            (name for name in self._counts if name not in self._shown), key=self._counts.__getitem__
        )
        self._taken_over.pop(smallest, None)
        self._counts[end_user] = self._taken_over[end_user] = self._counts.pop(smallest)

    def _is_let_in(self, end_user: str) -> bool:
        if len(self._shown) >= self._shown_max:
            least = min(self._shown, key=lambda name: (self._own(name), name))
            if self._own(end_user) <= self._own(least):
                return False
            self._shown.remove(least)
            self._hide(least)
        self._shown.add(end_user)
        return True

    def _own(self, end_user: str) -> int:
        """Give what an end user has certainly cost."""
        return self._counts[end_user] - self._taken_over.get(end_user, 0)


class EndUserMetrics:
    """Counts usages and their cost by end user; every usage moves one series, so that rates add up."""

    def __init__(self) -> None:
        self._top = TopEndUsers(SHOWN_MAX, COUNTED_MAX, _hide)

    def count(self, end_user: str, cost_usd: Decimal) -> None:
        """Count one rated usage."""
        label = self._top.label(end_user, int(cost_usd * _PICO))
        metrics.rating_end_user_usages.labels(label).inc()
        metrics.rating_end_user_cost.labels(label).inc(float(cost_usd))


def _hide(end_user: str) -> None:
    for metric in (metrics.rating_end_user_usages, metrics.rating_end_user_cost):
        metric.remove(end_user)
