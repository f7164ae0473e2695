"""Publishes again what Kafka refused, once a person has mended the cause, beside a running edge or without.

A record leaves the file only when Kafka has it: after a crash on the way it goes twice, under its own id.
"""

import asyncio
import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord
from services.runtime.spool.refused import DRAFT_NAME, Line, RefusedHeld, lines, replace
from services.runtime.spool.segment import SpoolFailed

# Held from beginning to end: two at once would each put back what the other has published.
REPUBLISH_LOCK_NAME = "republish.lock"
# Of lines that are published at a time, and in memory.
CHUNK_BYTES = 1024 * 1024
# For an edge that appends at this moment, which takes it microseconds.
REPLACE_S_MAX = 10.0
REPLACE_AGAIN_S = 0.01


class Republished(NamedTuple):
    """How many records Kafka has taken, has refused again, and were no records; `left` were not tried."""

    taken: int = 0
    refused: int = 0
    unreadable: int = 0
    left: int = 0
    fault: str = ""


async def republish(directory: Path, publisher: Publisher, stopping: asyncio.Event) -> Republished:
    """Publish what was refused in one spool until that is done or `stopping` is set, and take out what is.

    What is refused again, and what cannot be read, stays where it is. StartRefused where another command is
    at work there, ServiceStopped where the file cannot be rewritten: all of it is published again then.
    """
    with _alone(directory):
        draft = directory / DRAFT_NAME
        try:
            done, settled_bytes = await _published(directory, draft, publisher, stopping)
            if done.taken:
                await _replaced(directory, draft, settled_bytes)
        except (OSError, SpoolFailed) as exc:
            raise ServiceStopped(
                f"{directory}: what was published could not be taken out of the file ({exc}); "
                "run it again: to publish twice changes nothing."
            ) from exc
        finally:
            draft.unlink(missing_ok=True)
        return done


async def _published(
    directory: Path, draft: Path, publisher: Publisher, stopping: asyncio.Event
) -> tuple[Republished, int]:
    """Publish chunk by chunk, write what stays into the draft, and say how much of the file that settles."""
    done, settled_bytes = Republished(), 0
    with draft.open("wb") as kept:
        os.fchmod(kept.fileno(), 0o600)  # it holds what the file holds
        for chunk in _chunks(directory):
            if stopping.is_set() or done.fault:
                done = done._replace(left=done.left + len(chunk))
                continue
            try:
                stay = await _tried(publisher, chunk)
            except PublishFailed as exc:
                done = done._replace(left=len(chunk), fault=str(exc))
                continue
            kept.writelines(line.text for line in stay)
            settled_bytes += sum(len(line.text) for line in chunk)
            done = _added(done, chunk, stay)
    return done, settled_bytes


async def _tried(publisher: Publisher, chunk: Sequence[Line]) -> list[Line]:
    """Publish a chunk, and give the lines that stay."""
    records = {
        at: OutgoingRecord(line.letter.topic, line.letter.key, line.letter.value, line.letter.headers)
        for at, line in enumerate(chunk)
        if line.letter is not None
    }
    refused = {each.record for each in await publisher.publish(list(records.values()))}
    return [line for at, line in enumerate(chunk) if at not in records or records[at] in refused]


def _added(done: Republished, chunk: Sequence[Line], stay: Sequence[Line]) -> Republished:
    unreadable = sum(line.letter is None for line in stay)
    return done._replace(
        taken=done.taken + len(chunk) - len(stay),
        refused=done.refused + len(stay) - unreadable,
        unreadable=done.unreadable + unreadable,
    )


def _chunks(directory: Path) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size = 0
    for line in lines(directory):
        chunk.append(line)
        size += len(line.text)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def _replaced(directory: Path, draft: Path, settled_bytes: int) -> None:
    async with asyncio.timeout(REPLACE_S_MAX):
        while True:
            try:
                replace(directory, draft, settled_bytes)
            except RefusedHeld:
                await asyncio.sleep(REPLACE_AGAIN_S)
            else:
                return


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[None]:
    try:
        lock = lock_directory(directory, REPUBLISH_LOCK_NAME)
    except DirectoryHeld as exc:
        raise StartRefused(f"another command publishes what was refused in {directory}.") from exc
    except OSError as exc:
        raise StartRefused(f"{directory} cannot be written: {exc.strerror}.") from exc
    try:
        yield
    finally:
        os.close(lock)
