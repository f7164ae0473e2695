"""The same bytes sent straight to a simulated Anthropic API and through an edge before its twin."""

import contextlib
import socket
from typing import NamedTuple

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.edge.harness import Edge

SEED = 4  # of both simulations: the same requests in the same order get the same ids
NOW = 1_800_000_000.0
WAIT_S_MAX = 30.0
GATEWAY_KEY = b"sk-ant-gateway"
CALLER_KEY = b"sk-ant-caller"

# What services/edge/README.md says is not the same on both sides of the gateway.
CONNECTION = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
CREDENTIALS = {b"x-api-key", b"authorization", b"x-litellm-api-key"}
DROPPED_UP = CONNECTION | CREDENTIALS | {b"host", b"expect", b"cookie", b"forwarded", b"via"}
DROPPED_UP_PREFIXES = (b"proxy-", b"x-forwarded-", b"x-tollhouse-", b"x-litellm-")
DROPPED_DOWN = CONNECTION | {b"set-cookie", b"alt-svc"}
ADDED_DOWN = {b"x-tollhouse-request-id", b"x-litellm-call-id"}


class Sent(NamedTuple):
    """One request, as it stands on the wire after its request line and Host."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    framing: str = "content-length"  # or: chunked, none
    version: bytes = b"1.1"

    def on_the_wire(self, host):
        lines = [b"%s %s HTTP/%s" % (self.method, self.target, self.version), b"Host: " + host]
        lines += [name + b": " + value for name, value in self.headers]
        lines += [b"Connection: close"]
        body = self.body
        if self.framing == "content-length":
            lines += [b"Content-Length: %d" % len(body)]
        if self.framing == "chunked":
            lines += [b"Transfer-Encoding: chunked"]
            pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return b"\r\n".join(lines) + b"\r\n\r\n", body


class Answered(NamedTuple):
    """One answer: what a client may tell of it, and whether its framing came to an end."""

    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_whole: bool
    informed: int  # how many 1xx answers came before it

    def without(self, names):
        kept = tuple((name, value) for name, value in self.headers if name not in names)
        return self._replace(headers=kept)


def ask(port, sent: Sent) -> Answered:
    """Send a request on a connection of its own and read all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as connection:
        head, body = sent.on_the_wire(b"127.0.0.1:%d" % port)
        received = b""
        connection.sendall(head)
        if (b"Expect", b"100-continue") in sent.headers:
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(body)
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    return _read(received, sent.method)


def _all_from(port, content):
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S_MAX) as connection:
        connection.sendall(content)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def _read(received, method):
    informed = -1
    status = b"100"
    while int(status) < 200:
        informed += 1
        head, _, received = received.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        _, status, *reason = status_line.split(b" ", 2)
    headers = tuple(tuple(line.split(b": ", 1)) for line in lines)
    headers = tuple((name.lower(), value) for name, value in headers)
    body, is_whole = _body(dict(headers), received, bodiless=method == b"HEAD" or status in (b"204", b"304"))
    return Answered(int(status), b"".join(reason), headers, body, is_whole, informed)


def _body(headers, received, bodiless):
    if bodiless:
        return received, received == b""
    if headers.get(b"transfer-encoding") != b"chunked":
        length = headers.get(b"content-length")
        return received, length is None or len(received) == int(length)
    body = b""
    while received:
        size, _, rest = received.partition(b"\r\n")
        if int(size or b"0", 16) == 0:
            return body, received == b"0\r\n\r\n"
        body += rest[: int(size, 16)]
        received = rest[int(size, 16) + 2 :]
    return body, False


class Sides:
    """A simulated API asked straight, its twin behind an edge, and that edge."""

    def __init__(self, straight, behind, edge):
        self.straight, self.behind, self.edge = straight, behind, edge

    @classmethod
    @contextlib.contextmanager
    def running(cls, directory):
        twin = {"seed": SEED, "clock": lambda: NOW}
        with (
            SimulatedAnthropic.in_thread(**twin) as straight,
            SimulatedAnthropic.in_thread(**twin) as behind,
            Edge(directory, _config(behind)) as edge,
        ):
            yield cls(straight, behind, edge)

    def level(self):
        """Let both simulations have seen as many requests, whatever became of an earlier test's."""
        while (seen := [len(side.received) for side in (self.straight, self.behind)]) and seen[0] != seen[1]:
            behind = (self.straight, self.behind)[seen[0] > seen[1]]
            ask(_port(behind), Sent(b"GET", b"/api/hello"))

    def advance(self, seconds):
        for side in (self.straight, self.behind):
            side.advance(seconds)

    def reply_next(self, reply):
        for side in (self.straight, self.behind):
            side.reply_next(reply)

    def base_urls(self):
        """Give what the addresses in both sides' answers are to begin with."""
        return self.straight.base_url.encode(), self.edge.base_url.encode()

    def ask(self, sent: Sent, prefix=b""):
        """Give both answers, less what the gateway says that it drops and adds."""
        straight = ask(_port(self.straight), sent)
        through = ask(self.edge.port, sent._replace(target=prefix + sent.target))
        ids = {value for name, value in through.headers if name in ADDED_DOWN}
        assert len(ids) == 1, "one exchange has one id under both names"
        return straight.without(DROPPED_DOWN), through.without(DROPPED_DOWN | ADDED_DOWN)

    def ask_in_a_row(self, requests):
        """Give all that came from both sides on one connection, less the lines that the gateway adds."""
        written = [b"".join(sent.on_the_wire(b"any")) for sent in requests]
        kept_open = [each.replace(b"Connection: close\r\n", b"") for each in written[:-1]]
        content = b"".join([*kept_open, written[-1]])
        straight, through = (_all_from(port, content) for port in (_port(self.straight), self.edge.port))
        lines = through.splitlines(keepends=True)
        return straight, b"".join(line for line in lines if line.partition(b":")[0] not in ADDED_DOWN)

    def received(self):
        """Give the last request as both simulations got it, less what the gateway says that it changes."""
        return _as_got(self.straight.received[-1]), _as_got(self.behind.received[-1])


def _as_got(received):
    headers = [(name.lower(), value) for name, value in received.headers]
    kept = [(name, value) for name, value in headers if not _is_dropped(name)]
    # A body that is read before it goes up has a length, in place of chunks.
    framed = [each for each in kept if each[0] != b"content-length"]
    if received.target.startswith(b"/v1/messages/batches"):
        # These answers are asked for as they are, so that their results_url can be rewritten.
        framed = [each for each in framed if each[0] != b"accept-encoding"]
    return received.method, received.target, framed, received.body


def _is_dropped(name):
    return name in DROPPED_UP or name.startswith(DROPPED_UP_PREFIXES)


def _config(upstream):
    return EdgeConfig(
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY.decode(), read_s_max=20.0)
    )


def _port(side):
    return int(side.base_url.rpartition(":")[2])
