"""A server that is asked to end serves everybody who could connect to it, and nobody is reset."""

import asyncio
import contextlib
import errno
import select
import socket
import sys
import threading

import pytest
import uvloop

from services.runtime.http import serve
from services.runtime.listener import bind, last_accepted, take_no_more

CLIENTS = 6
WAIT_S_MAX = 30.0
REQUEST = b"GET / HTTP/1.1\r\nhost: e\r\n\r\n"


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Server:
    """A server in a thread of its own."""

    def __init__(self):
        self._listener = bind("127.0.0.1", 0)
        self.address = self._listener.getsockname()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self._thread.start()

    async def _serve(self):
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await serve(app, self._listener, self._stopping, drain_s_max=10)

    def stop(self):
        self._loop.call_soon_threadsafe(self._stopping.set)

    def join(self):
        self._thread.join(WAIT_S_MAX)
        assert not self._thread.is_alive()


def answer_of(connection):
    connection.sendall(REQUEST)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while b"\r\n\r\n" not in received:
            data = connection.recv(65_536)
            if not data:
                break
            received += data
    return received.partition(b"\r\n")[0]


def connected(server):
    return socket.create_connection(server.address, WAIT_S_MAX)


def test_who_has_connected_before_the_end_is_answered_behind_it_once():
    server = Server()
    with connected(server) as first:
        assert answer_of(first) == b"HTTP/1.1 204 No Content"  # so that the next one is accepted, too
        with connected(server) as waiting:
            server.stop()
            assert first.recv(1) == b""  # idle, and closed: the end has begun
            assert answer_of(waiting) == b"HTTP/1.1 204 No Content"
            assert waiting.recv(1) == b""
    server.join()


def test_who_has_connected_and_asks_nothing_does_not_keep_a_server():
    server = Server()
    with connected(server) as first:
        answer_of(first)
        with connected(server) as silent:
            server.stop()
            server.join()
            assert silent.recv(1) == b""


def test_who_waits_to_be_accepted_is_taken_in_before_the_listener_is_closed():
    """Closing alone would reset them."""
    listener = bind("127.0.0.1", 0)
    address = listener.getsockname()
    waiting = [socket.create_connection(address, WAIT_S_MAX) for _ in range(CLIENTS)]
    take_no_more(listener)
    accepted = last_accepted(listener)
    assert {each.getpeername() for each in accepted} == {each.getsockname() for each in waiting}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, WAIT_S_MAX)
    for each in (*accepted, *waiting):
        each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no socket filters")
def test_who_comes_while_a_listener_closes_waits_and_is_then_refused_and_never_reset():
    listener = bind("127.0.0.1", 0)
    before = socket.create_connection(listener.getsockname(), WAIT_S_MAX)
    take_no_more(listener)
    with socket.socket() as newcomer:
        newcomer.setblocking(False)
        assert newcomer.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        assert select.select([], [newcomer], [], 0)[1] == []  # on loopback a handshake takes no time
        (accepted,) = last_accepted(listener)
        assert select.select([], [newcomer], [], WAIT_S_MAX)[1] == [newcomer]
        assert newcomer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    before.sendall(b"asked")
    assert accepted.recv(16) == b"asked"
    before.close()
    accepted.close()
