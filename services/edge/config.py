"""The `edge` section: where the edge listens, whom it lets in, and where it sends them."""

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from services.runtime.config import Variable
from services.runtime.listener import LOOPBACK

MIB = 1024 * 1024
# The smallest limit of a spool in which several exchanges have room.
SPOOL_BYTES_MIN = MIB
# Of a credential: a word, so that nobody writes the credential itself here.
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Of a key: what can stand in a header as it is; the line end of the file that it came from cannot.
KEY = re.compile(r"[!-~]*")
KEY_FAULT = "holds a character that no key has (a space or a line end?)"
# An address that stands in JSON as it is, and goes on with a path.
PUBLIC_URL = re.compile(r"[!$-;=A-\[\]_a-z~]*")


class UpstreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Anthropic API and the gateway's credential for it; `api_key` goes before `auth_token`."""

    name: str = "default"  # what events call this credential
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
        for name in ("api_key", "auth_token"):
            if not KEY.fullmatch(getattr(self, name)):
                yield f"{name}: {KEY_FAULT}"
        if not NAME.fullmatch(self.name):
            yield "name: must be 1 to 64 letters, digits, dots, dashes or underscores"
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
    """Where unacknowledged events wait, and what becomes of new exchanges when there is no more room.

    `refuse` answers them with 503; `shed` serves them without a record, and counts them.
    """

    directory: str = ".tollhouse/spool"
    bytes_max: int = 1024 * MIB  # about an hour of Kafka being away at 100 exchanges a second
    when_full: Literal["refuse", "shed"] = "refuse"
    fsync: bool = False

    def faults(self) -> Iterable[str]:
        """Say which settings cannot work."""
        if self.bytes_max < SPOOL_BYTES_MIN:
            yield f"bytes_max: must be at least {SPOOL_BYTES_MIN}, or two large events would fill it"


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


class BatchesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where bodies that create batches wait while they are read; their files have no names."""

    directory: str = ""  # "" is the spool's
    bytes_max: int = 2048 * MIB  # of all at once


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How an edge process runs."""

    host: str = "127.0.0.1"
    port: int = 4000
    public_url: str = ""  # the base URL that clients are given; "" is what a request's own Host says
    master_key: str = ""
    allow_open_bind: bool = False
    own_key_hash_secret: str = ""
    disable_end_user_cost_tracking: bool = False  # no end user on any event, row or label
    body_bytes_max: int = 32 * MIB  # of requests that are read before they go up; Anthropic's own limit
    decoded_body_bytes_max: int = 32 * MIB  # of a request that came in a content coding
    bodies_in_memory_bytes_max: int = 512 * MIB  # of all requests that wait for their answer
    batch_body_bytes_max: int = 256 * MIB  # of a call that creates a batch; Anthropic's own limit
    client_read_s_max: float = 300.0  # for the next bytes of a body that goes up as it comes in
    client_write_s_max: float = 300.0  # for a client to take what was sent to it
    shutdown_s_max: int = 60
    upstream: UpstreamConfig = UpstreamConfig()
    spool: SpoolConfig = SpoolConfig()
    drain: DrainConfig = DrainConfig()
    batches: BatchesConfig = BatchesConfig()

    def faults(self) -> Iterable[str]:
        """Say which settings do not fit one another."""
        if not 0 <= self.port <= 65535:
            yield "port: must lie between 0 and 65535"
        yield from self._body_faults()
        if not KEY.fullmatch(self.master_key):
            yield f"master_key: {KEY_FAULT}"
        if self.shutdown_s_max < 0:
            yield "shutdown_s_max: must not be below 0"
        if self.host not in LOOPBACK and not self.master_key and not self.allow_open_bind:
            yield (
                f"host: {self.host} can be reached from elsewhere and no master_key is set; "
                "set TOLLHOUSE_MASTER_KEY, or allow_open_bind: true if that is meant"
            )
        yield from self._public_url_faults()
        if any(self.upstream.faults()):
            return
        upstream = urlsplit(self.upstream.base_url)
        if upstream.hostname in LOOPBACK and upstream.port == self.port and self.host in LOOPBACK:
            yield "upstream.base_url: is this gateway's own address (is ANTHROPIC_BASE_URL set for a client?)"

    def _body_faults(self) -> Iterable[str]:
        for name in (
            "body_bytes_max",
            "decoded_body_bytes_max",
            "batch_body_bytes_max",
            "client_read_s_max",
            "client_write_s_max",
        ):
            if not getattr(self, name) > 0:
                yield f"{name}: must be above 0"
        for name in ("body_bytes_max", "decoded_body_bytes_max"):
            if self.bodies_in_memory_bytes_max < getattr(self, name):
                yield f"bodies_in_memory_bytes_max: must not be below {name}, or no long body could pass"
        if self.batches.bytes_max < self.batch_body_bytes_max:
            yield "batches.bytes_max: must not be below batch_body_bytes_max, or no long batch could pass"

    def _public_url_faults(self) -> Iterable[str]:
        try:
            parts = urlsplit(self.public_url)
            _ = parts.port
        except ValueError:
            yield "public_url: is not an address"
            return
        if not self.public_url:
            return
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield "public_url: must be an http or https address"
        if not PUBLIC_URL.fullmatch(self.public_url):
            yield "public_url: must not carry a query, a fragment, credentials or spaces"

    def __repr__(self) -> str:
        return f"EdgeConfig(host={self.host!r}, port={self.port}, ...)"


ENVIRONMENT = (
    Variable("TOLLHOUSE_HOST", "edge.host"),
    Variable("TOLLHOUSE_PORT", "edge.port"),
    Variable("TOLLHOUSE_PUBLIC_URL", "edge.public_url"),
    Variable("TOLLHOUSE_MASTER_KEY", "edge.master_key"),
    Variable("LITELLM_MASTER_KEY", "edge.master_key"),
    Variable("TOLLHOUSE_SPOOL_DIRECTORY", "edge.spool.directory"),
    Variable("TOLLHOUSE_SHUTDOWN_S_MAX", "edge.shutdown_s_max"),
    Variable("TOLLHOUSE_ANTHROPIC_API_KEY", "edge.upstream.api_key"),
    Variable("ANTHROPIC_API_KEY", "edge.upstream.api_key"),
    Variable("ANTHROPIC_AUTH_TOKEN", "edge.upstream.auth_token"),
    Variable("ANTHROPIC_API_BASE", "edge.upstream.base_url"),
    Variable("ANTHROPIC_BASE_URL", "edge.upstream.base_url"),
)
