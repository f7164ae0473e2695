"""The `rating` section: the price book, the consumer group, and where health is served."""

from collections.abc import Iterable

import msgspec

from services.runtime.config import Variable

PORT_MAX = 65535


class RatingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a rating process runs; `prices` is the path of a replacement price book, "" the built-in one.

    `overrides` is the path of a file of the operator's own prices and discounts, laid over the book.
    The two switches are LiteLLM's, by name and meaning: one asks for end users on metrics, the other forbids.
    """

    prices: str = ""
    overrides: str = ""
    group_id: str = "tollhouse.rating"
    group_instance_id: str = ""
    host: str = "127.0.0.1"
    port: int = 4011
    enable_end_user_cost_tracking_prometheus_only: bool = False
    disable_end_user_cost_tracking_prometheus_only: bool = False

    @property
    def shows_end_users(self) -> bool:
        """Whether metrics name the end users that cost most."""
        return (
            self.enable_end_user_cost_tracking_prometheus_only
            and not self.disable_end_user_cost_tracking_prometheus_only
        )

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
        if not self.group_id:
            yield "group_id: must not be empty"
        if not 0 <= self.port <= PORT_MAX:
            yield f"port: must lie between 0 and {PORT_MAX}"


ENVIRONMENT = (
    Variable("TOLLHOUSE_PRICES", "rating.prices"),
    Variable("TOLLHOUSE_PRICE_OVERRIDES", "rating.overrides"),
    Variable("TOLLHOUSE_RATING_HOST", "rating.host"),
    Variable("TOLLHOUSE_RATING_PORT", "rating.port"),
)
