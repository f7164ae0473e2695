"""Makes a directory one process's own for as long as that lives; what that means is its owner's to say."""

import fcntl
import os
from pathlib import Path


class DirectoryHeld(Exception):
    """Another running process has the directory."""


def lock_directory(directory: Path, name: str) -> int:
    """Make the directory if need be and lock the file `name` in it, until the descriptor given is closed.

    DirectoryHeld where another process has it, OSError where it cannot be made or written. The lock goes
    with the process, however that ends (flock(2)).
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise DirectoryHeld(str(directory)) from exc
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
