"""Chooses how to watch the bytes of an answer pass: a tap never raises, and never holds a byte up."""

from typing import Protocol

from schemas.exchange import Operation
from schemas.usage_rules import CacheTtls, Reading
from services.edge.tap.codings import CannotDecode
from services.edge.tap.document import JsonTap
from services.edge.tap.stream import SseTap
from services.runtime import metrics


class Tap(Protocol):
    """One answer being watched."""

    @property
    def has_started(self) -> bool:
        """Whether message_start has been read, so that there is usage to keep even if the rest is lost."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the client now holds, or is about to hold, a whole answer although more bytes may come."""
        ...

    @property
    def is_cut_short(self) -> bool:
        """Whether the answer would be incomplete if it ended here; False where that cannot be told."""
        ...

    @property
    def is_long(self) -> bool:
        """Whether `read` is better called beside the event loop."""
        ...

    def feed(self, chunk: bytes) -> None:
        """Watch one chunk pass."""
        ...

    def read(self) -> Reading:
        """Say what was used, as far as it is known."""
        ...


class Blind:
    """Watches nothing: for answers that carry no usage, such as files."""

    has_started = False
    is_complete = False
    is_cut_short = False
    is_long = False

    def feed(self, chunk: bytes) -> None:
        """Let it pass."""

    def read(self) -> Reading:
        """There is nothing to say."""
        return Reading()


def tap_for(
    operation: Operation, status: int, content_type: str, content_encoding: str, cache_ttls: CacheTtls
) -> Tap:
    """Choose how to watch an answer by what was asked and what the answer says it is."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "text/event-stream" and operation == "messages":
            return SseTap(content_encoding, cache_ttls)
        if kind == "application/json" and (operation in ("messages", "count_tokens") or status >= 400):
            return JsonTap(content_encoding, cache_ttls)
    except CannotDecode as exc:
        metrics.edge_tap_faults.labels(exc.reason).inc()
    return Blind()
