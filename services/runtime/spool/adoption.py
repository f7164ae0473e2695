"""Decides which spool directory a starting process owns and which ones of dead processes it takes over."""

from pathlib import Path

from services.runtime.errors import StartRefused
from services.runtime.spool.store import LOCK_NAME, Spool, SpoolHeld

# Directories under one spool root: more than workers that ever ran on one host at once.
SPOOLS_MAX = 1024


def open_spools(root: Path, bytes_max: int, *, fsync: bool = False) -> tuple[Spool, list[Spool]]:
    """Give this process's own spool, and those of siblings that died with entries in them.

    A directory that nobody holds is taken over; the first becomes this process's own, so that a restart
    in place goes on under the same lasting id. StartRefused where every directory is held, or one of the
    dead cannot be read: what it holds is not passed over in silence.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StartRefused(f"the spool directory {root} cannot be made: {exc.strerror}.") from exc
    found: list[Spool] = []
    for directory in sorted(path.parent for path in root.glob(f"*/{LOCK_NAME}")):
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


def _kept(spool: Spool) -> bool:
    if spool.entries:
        return True
    spool.close()
    return False
