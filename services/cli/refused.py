"""`tollhouse spool refused`: what Kafka did not take from this machine's spools, and how it gets there."""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from schemas.dead_letters import DeadLetter
from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.publisher import Publisher
from services.runtime.service import run_command
from services.runtime.spool.adoption import spool_directories
from services.runtime.spool.refused import REFUSED_NAME, lines, refused_bytes
from services.runtime.spool.republish import Republished, republish

HEAD = ("spool", "set_aside_at", "topic", "subject", "bytes", "error_class")
ROWS = 1_000
ROOT = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The root of the spools.  [default: edge.spool.directory]",
)


class Row(NamedTuple):
    """A refused record without its value; `subject` is mostly the request's id."""

    spool: str
    set_aside_at: str
    topic: str
    subject: str
    bytes: int
    error_class: str


@click.group()
def refused() -> None:
    """Look at records that Kafka did not take, and publish them again when the cause is gone.

    An edge sets a record aside, in refused.jsonl of its spool, that Kafka says it will never take: nearly
    always one that is larger than its topic's max.message.bytes.
    """


@refused.command("list")
@ROOT
@click.option("--limit", type=click.IntRange(1), default=ROWS, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_refused(path: Path | None, directory: Path | None, limit: int, as_json: bool) -> None:
    """Show what was refused: when, for which topic, of which request, how large, and what Kafka said."""
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    shown: deque[Row] = deque(maxlen=limit)
    count = unreadable = 0
    for spool in done(lambda: _spools(loaded, directory)):
        for line in lines(spool):
            count += 1
            unreadable += line.letter is None
            if line.letter is not None:
                shown.append(_row(spool.name, line.letter))
    if as_json:
        for each in shown:
            click.echo(msgspec.json.encode(each._asdict()))
        return
    click.echo(table(HEAD, list(shown)))
    click.echo(f"{len(shown)} of {count} shown" + _cannot_be_read(unreadable), err=True)


@refused.command("republish")
@ROOT
@click.option("--dry-run", is_flag=True, help="Say how many would be published, and publish nothing.")
@click.pass_obj
def republish_refused(path: Path | None, directory: Path | None, dry_run: bool) -> None:
    """Publish again what was refused, in every spool; running edges are not disturbed.

    First mend the cause: raise the topic's max.message.bytes, for one. What Kafka takes leaves the file, what
    it refuses again stays, and the exit code is 1 then. May be stopped and run again at any time: ids are
    kept, so that what is published twice counts once.
    """
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    spools = [each for each in done(lambda: _spools(loaded, directory)) if refused_bytes(each)]
    if not spools:
        click.echo("nothing was refused")
        return
    if dry_run:
        for each in spools:
            click.echo(f"{each}: {sum(1 for _ in lines(each))} records would be published")
        return
    raise SystemExit(run_command(lambda stopping: _republished(loaded, spools, stopping)))


async def _republished(loaded: Settings, spools: Sequence[Path], stopping: asyncio.Event) -> None:
    publisher, total = Publisher(loaded.kafka), Republished()
    try:
        for spool in spools:
            result = await republish(spool, publisher, stopping)
            click.echo(f"{spool}: {_told(result)}")
            total = Republished(
                taken=total.taken + result.taken,
                refused=total.refused + result.refused,
                unreadable=total.unreadable + result.unreadable,
                left=result.left,
                fault=result.fault,
            )
            if total.fault or stopping.is_set():
                break
    finally:
        await publisher.close()
    if total.fault:
        raise ServiceStopped(f"{total.fault}; what was not published is still there: run this again.")
    if total.left:
        raise ServiceStopped(f"{total.left} records were not tried: run this again.")
    if total.refused or total.unreadable:
        raise ServiceStopped(
            f"{total.refused + total.unreadable} records stay in {REFUSED_NAME}: raise max.message.bytes of "
            "their topics, then run this again; one that cannot be read is for a person to look at."
        )


def _told(result: Republished) -> str:
    again = f", {result.refused} refused again" if result.refused else ""
    left = f", {result.left} not tried" if result.left else ""
    return f"{result.taken} published{again}{left}{_cannot_be_read(result.unreadable)}"


def _cannot_be_read(count: int) -> str:
    return f", {count} lines cannot be read" if count else ""


def _spools(loaded: Settings, directory: Path | None) -> list[Path]:
    root = directory or Path(loaded.edge.spool.directory)
    if not root.is_dir():
        raise StartRefused(f"{root} is no directory: has an edge run with this configuration?")
    return spool_directories(root)


def _row(spool: str, letter: DeadLetter) -> Row:
    subject = dict(letter.headers).get("ce_subject", b"-").decode(errors="replace")
    at = f"{letter.dead_at:%Y-%m-%d %H:%M:%S}"
    return Row(spool, at, letter.topic, subject, len(letter.value or b""), letter.error_class)
