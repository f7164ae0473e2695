"""Decides which spool directory a starting process owns and which ones of dead processes are taken over."""

import os
from pathlib import Path

from services.runtime.errors import StartRefused
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.spool.frames import HEAD_BYTES
from services.runtime.spool.segment import segment_paths
from services.runtime.spool.store import LOCK_NAME, Spool, SpoolHeld

# Directories under one spool root: more than workers that ever ran on one host at once.
SPOOLS_MAX = 1024


def open_spools(root: Path, bytes_max: int, *, fsync: bool = False) -> tuple[Spool, list[Spool]]:
    """Give this process's own spool, and those of siblings that died with something in them.

    A directory that nobody holds is taken over; the first becomes this process's own, so that a restart
    in place goes on under the same lasting id. StartRefused where every directory is held, or one of the
    dead cannot be read: what it holds is not passed over in silence.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StartRefused(f"the spool directory {root} cannot be made: {exc.strerror}.") from exc
    found: list[Spool] = []
    for directory in spool_directories(root):
        try:
            found.append(Spool(directory, bytes_max, fsync=fsync))
        except SpoolHeld:
            continue
    if found:
        return found[0], [spool for spool in found[1:] if _kept(spool)]
    for number in range(SPOOLS_MAX):
        try:
            return Spool(root / f"{number:04d}", bytes_max, fsync=fsync), []
        except SpoolHeld:
            continue
    raise StartRefused(f"all {SPOOLS_MAX} spools under {root} belong to running processes.")


def spool_directories(root: Path) -> list[Path]:
    """List the spools under one root, whoever they belong to."""
    return sorted(path.parent for path in root.glob(f"*/{LOCK_NAME}"))


def is_held(directory: Path) -> bool:
    """Say whether a running process has a spool; OSError where that cannot be asked."""
    try:
        os.close(lock_directory(directory, LOCK_NAME))
    except DirectoryHeld:
        return True
    return False


def abandoned(root: Path) -> set[Path]:
    """Find the spools that hold something and belong to nobody."""
    return {
        directory
        for directory in spool_directories(root)
        if _size(directory) > HEAD_BYTES and not is_held(directory)
    }


def _size(directory: Path) -> int:
    try:
        return sum(path.stat().st_size for path in segment_paths(directory))
    except FileNotFoundError:
        return 0  # its owner is at work


def _kept(spool: Spool) -> bool:
    if spool.entries or spool.open_exchanges:
        return True
    spool.close()
    return False
