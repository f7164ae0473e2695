"""Finds ports that nobody listens on, below those that the system hands out to connections going out."""

import random
import socket

# Linux gives its own from 32,768, macOS from 49,152: a connection of anybody's could take one of those.
_PORTS = (20_000, 32_000)
_TRIES_MAX = 200


def free_ports(count: int) -> int:
    """Give the first of so many in a row; OSError where there seem to be none."""
    for _ in range(_TRIES_MAX):
        port = random.randrange(*_PORTS)
        if all(_is_free(port + step) for step in range(count)):
            return port
    raise OSError(f"there are no {count} free ports in a row on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
