"""Declares how received requests are remembered, and two ways to do it; never sees a reply's content."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

RECEIVED_REQUESTS_MAX = 1_000  # with bodies of up to 32 MB each this is for tests, not for load

End = Literal["answered", "cut", "client_gone"]


class ReceivedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request exactly as it arrived: target undecoded, header names in their case, order and number.

    A body of more than 32 MB is not kept; `body_bytes` tells the length of every body.
    """

    number: int
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    body_bytes: int


class FinishedExchange(msgspec.Struct, frozen=True, kw_only=True):
    """How one exchange ended; `sent_bytes` counts the body as handed to the connection."""

    number: int
    end: End
    sent_bytes: int


class Recorder(Protocol):
    """Where the server reports what it receives; called on the server's thread and never to block it."""

    def received(self, request: ReceivedRequest) -> None:
        """Take note of a request, before it is answered."""
        ...

    def finished(self, exchange: FinishedExchange) -> None:
        """Take note of an exchange's end."""
        ...


class KeepNothing:
    """Records nothing: for a server under load."""

    def received(self, request: ReceivedRequest) -> None:
        """Forget the request."""

    def finished(self, exchange: FinishedExchange) -> None:
        """Forget the exchange."""


class KeepLast:
    """Keeps the last requests and exchanges, readable from any thread."""

    def __init__(self, requests_max: int = RECEIVED_REQUESTS_MAX) -> None:
        self.requests: deque[ReceivedRequest] = deque(maxlen=requests_max)
        self.exchanges: deque[FinishedExchange] = deque(maxlen=requests_max)
        self._received_count = 0
        self._finished_count = 0
        self._changed = threading.Condition()

    def received(self, request: ReceivedRequest) -> None:
        """Keep the request, at the price of the oldest one when full."""
        with self._changed:
            self.requests.append(request)
            self._received_count += 1
            self._changed.notify_all()

    def finished(self, exchange: FinishedExchange) -> None:
        """Keep the exchange's end, at the price of the oldest one when full."""
        with self._changed:
            self.exchanges.append(exchange)
            self._finished_count += 1
            self._changed.notify_all()

    def wait_received(self, count: int, timeout_seconds: float) -> None:
        """Block until this many requests have arrived in all; raises TimeoutError."""
        self._wait(lambda: self._received_count >= count, timeout_seconds)

    def wait_finished(self, count: int, timeout_seconds: float) -> None:
        """Block until this many exchanges have ended in all; raises TimeoutError."""
        self._wait(lambda: self._finished_count >= count, timeout_seconds)

    def _wait(self, reached: Callable[[], bool], timeout_seconds: float) -> None:
        started = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(reached, timeout_seconds):
                waited = time.monotonic() - started
                raise TimeoutError(
                    f"after {waited:.1f} s {self._received_count} requests had arrived"
                    f" and {self._finished_count} had ended"
                )
