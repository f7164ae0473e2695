"""Takes an address to listen on, and gives it up without resetting anybody who could connect to it."""

import contextlib
import ctypes
import socket
import struct
import sys

from services.runtime.errors import StartRefused

BACKLOG = 2048
LOOPBACK = ("127.0.0.1", "::1", "localhost")

# From linux/filter.h: load the byte of the TCP header that holds its flags, keep SYN and ACK of it; where
# that leaves SYN alone, which only a first segment has, take nothing of the segment, and all of any other.
_SO_ATTACH_FILTER = 26
_TAKES_NO_SYN = (
    (0x30, 0, 0, 13),  # BPF_LD | BPF_B | BPF_ABS
    (0x54, 0, 0, 0x12),  # BPF_ALU | BPF_AND | BPF_K
    (0x15, 0, 1, 0x02),  # BPF_JMP | BPF_JEQ | BPF_K
    (0x06, 0, 0, 0),  # BPF_RET | BPF_K
    (0x06, 0, 0, 0xFFFFFFFF),
)


def bind(host: str, port: int) -> socket.socket:
    """Take the address before anything else is started; StartRefused where it is not to be had."""
    try:
        listener = listening(host, port, BACKLOG)
    except OSError as exc:
        raise StartRefused(f"cannot listen on {host}:{port}: {exc.strerror}.") from exc
    listener.setblocking(False)
    return listener


def listening(host: str, port: int, backlog: int) -> socket.socket:
    """Give a socket that listens, for whoever has words of its own for the OSError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: event loops switch Nagle's delay off only for sockets that say they are TCP,
    # and it costs every answer on a reused connection 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def take_no_more(listener: socket.socket) -> None:
    """Have Linux drop the first segment of every new connection; those that are being made are made.

    A client sends a dropped one again a second later, and is refused then, where nobody listens any more:
    it has sent nothing yet. Without this, whoever comes between the last accept and the close is reset
    behind its request. Where there is no such filter (other systems, some sandboxes) that moment stays.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _TAKES_NO_SYN))
    option = struct.pack("@HP", len(_TAKES_NO_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


def last_accepted(listener: socket.socket) -> list[socket.socket]:
    """Accept everybody who waits, and close."""
    accepted: list[socket.socket] = []
    with contextlib.suppress(OSError):  # BlockingIOError: nobody waits any more
        while True:
            accepted.append(listener.accept()[0])
    listener.close()
    return accepted
