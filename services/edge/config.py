"""The `edge` section: where the edge listens, whom it lets in, and where it sends them."""

from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from services.runtime.config import Variable
from services.runtime.http import LOOPBACK

MIB = 1024 * 1024


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Anthropic API and the gateway's credential for it; `api_key` goes before `auth_token`."""

    base_url: str = "https://api.anthropic.com"
    api_key: str = ""
    auth_token: str = ""
    connect_s_max: float = 5.0
    read_s_max: float = 600.0  # between two bytes; Anthropic's SDKs wait as long
    total_s_max: float = 0.0  # of a whole exchange; 0 is none
    connections_max: int = 4096

    @property
    def has_credential(self) -> bool:
        """Whether callers go upstream under the gateway's credential instead of their own."""
        return bool(self.api_key or self.auth_token)

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
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
        for name in ("connect_s_max", "read_s_max", "connections_max"):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"
        if not self.total_s_max >= 0:
            yield "total_s_max: must not be below 0"

    def __repr__(self) -> str:
        return f"UpstreamConfig(base_url={self.base_url!r}, ...)"


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where unacknowledged events wait, and how many bytes of them before new exchanges are refused."""

    directory: str = ".tollhouse/spool"
    bytes_max: int = 1024 * MIB  # about an hour of Kafka being away at 100 exchanges a second
    fsync: bool = False

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
        if self.bytes_max <= 0:
            yield "bytes_max: must be above 0"


class DrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of an answer whose client has hung up: read on for its usage, within these limits."""

    on_disconnect: Literal["drain", "cancel"] = "drain"
    seconds_max: float = 300.0
    exchanges_max: int = 256  # at once; beyond it upstream is cancelled

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
        if not self.seconds_max >= 0:
            yield "seconds_max: must not be below 0"
        if self.exchanges_max < 0:
            yield "exchanges_max: must not be below 0"


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How an edge process runs."""

    host: str = "127.0.0.1"
    port: int = 4000
    master_key: str = ""
    allow_open_bind: bool = False
    own_key_hash_secret: str = ""
    body_bytes_max: int = 32 * MIB  # of requests that are read before they go up; Anthropic's own limit
    shutdown_s_max: int = 60
    upstream: UpstreamConfig = UpstreamConfig()
    spool: SpoolConfig = SpoolConfig()
    drain: DrainConfig = DrainConfig()

    def faults(self) -> Iterable[str]:
        """Say which settings do not fit one another."""
        if not 0 <= self.port <= 65535:
            yield "port: must lie between 0 and 65535"
        if self.body_bytes_max <= 0:
            yield "body_bytes_max: must be above 0"
        if self.shutdown_s_max < 0:
            yield "shutdown_s_max: must not be below 0"
        if self.host not in LOOPBACK and not self.master_key and not self.allow_open_bind:
            yield (
                f"host: {self.host} can be reached from elsewhere and no master_key is set; "
                "set TOLLHOUSE_MASTER_KEY, or allow_open_bind: true if that is meant"
            )
        if any(self.upstream.faults()):
            return
        upstream = urlsplit(self.upstream.base_url)
        if upstream.hostname in LOOPBACK and upstream.port == self.port and self.host in LOOPBACK:
            yield "upstream.base_url: is this gateway's own address (is ANTHROPIC_BASE_URL set for a client?)"

    def __repr__(self) -> str:
        return f"EdgeConfig(host={self.host!r}, port={self.port}, ...)"


ENVIRONMENT = (
    Variable("TOLLHOUSE_HOST", "edge.host"),
    Variable("TOLLHOUSE_PORT", "edge.port"),
    Variable("TOLLHOUSE_MASTER_KEY", "edge.master_key"),
    Variable("LITELLM_MASTER_KEY", "edge.master_key"),
    Variable("TOLLHOUSE_SPOOL_DIRECTORY", "edge.spool.directory"),
    Variable("TOLLHOUSE_SHUTDOWN_S_MAX", "edge.shutdown_s_max"),
    Variable("ANTHROPIC_API_KEY", "edge.upstream.api_key"),
    Variable("ANTHROPIC_AUTH_TOKEN", "edge.upstream.auth_token"),
    Variable("ANTHROPIC_API_BASE", "edge.upstream.base_url"),
    Variable("ANTHROPIC_BASE_URL", "edge.upstream.base_url"),
)
