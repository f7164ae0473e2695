"""The `batch_tracker` section: under which credential batches are followed, how often they are looked at."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from services.runtime.config import Variable

PORT_MAX = 65535
# What a header may carry as it is.
KEY = re.compile(r"[!-~]*")


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Anthropic API and the credential that batches were made under: the edge's, by the same name."""

    base_url: str = "https://api.anthropic.com"
    name: str = "default"
    api_key: str = ""
    auth_token: str = ""
    connect_s_max: float = 5.0
    read_s_max: float = 60.0  # between two bytes

    @property
    def credential(self) -> str:
        """The credential's name, "" where there is none."""
        return self.name if self.api_key or self.auth_token else ""

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
        if not self.name:
            yield "name: must not be empty"
        for name in ("api_key", "auth_token"):
            if not KEY.fullmatch(getattr(self, name)):
                yield f"{name}: holds a character that no key has (a space or a line end?)"
        try:
            parts = urlsplit(self.base_url)
            _ = parts.port
        except ValueError:
            yield "base_url: is not an address"
            return
        if parts.scheme not in ("http", "https") or not parts.netloc:
            yield "base_url: must be an http or https address"
        if parts.query or parts.fragment or "@" in parts.netloc:
            yield "base_url: must not carry a query, a fragment or credentials"
        for name in ("connect_s_max", "read_s_max"):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"

    def __repr__(self) -> str:
        return f"UpstreamConfig(base_url={self.base_url!r}, name={self.name!r}, ...)"


class BatchTrackerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch tracker runs.

    A batch is looked at every tenth of its age, within `poll_s_min` and `poll_s_max`. Of batches that no
    fact names, those made in the last `adopt_hours_max` are adopted; `list_interval_s` 0 adopts none.
    """

    group_id: str = "tollhouse.batch-tracker"
    group_instance_id: str = ""
    host: str = "127.0.0.1"
    port: int = 4013
    poll_s_min: float = 5.0
    poll_s_max: float = 300.0
    requests_per_minute_max: int = 300  # of all calls; Anthropic's lowest limit on batch endpoints is 1000
    bookings_max: int = 2  # results files that are read at once
    list_interval_s: float = 3600.0
    adopt_hours_max: float = 48.0
    adopt_grace_s: float = 600.0  # for the fact of its creation to come, before a batch is nobody's
    upstream: UpstreamConfig = UpstreamConfig()

    def faults(self) -> Iterable[str]:
        """Say which settings do not fit one another."""
        if not self.group_id:
            yield "group_id: must not be empty"
        if not 0 <= self.port <= PORT_MAX:
            yield f"port: must lie between 0 and {PORT_MAX}"
        for name in ("poll_s_min", "requests_per_minute_max", "bookings_max"):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"
        if self.poll_s_max < self.poll_s_min:
            yield "poll_s_max: must not be below poll_s_min"
        for name in ("list_interval_s", "adopt_hours_max", "adopt_grace_s"):
            if not getattr(self, name) >= 0:
                yield f"{name}: must not be below 0"

    def __repr__(self) -> str:
        return f"BatchTrackerConfig(group_id={self.group_id!r}, port={self.port}, ...)"


ENVIRONMENT = (
    Variable("TOLLHOUSE_BATCH_TRACKER_HOST", "batch_tracker.host"),
    Variable("TOLLHOUSE_BATCH_TRACKER_PORT", "batch_tracker.port"),
    Variable("TOLLHOUSE_ANTHROPIC_API_KEY", "batch_tracker.upstream.api_key"),
    Variable("ANTHROPIC_API_KEY", "batch_tracker.upstream.api_key"),
    Variable("ANTHROPIC_AUTH_TOKEN", "batch_tracker.upstream.auth_token"),
    Variable("ANTHROPIC_API_BASE", "batch_tracker.upstream.base_url"),
    Variable("ANTHROPIC_BASE_URL", "batch_tracker.upstream.base_url"),
)
