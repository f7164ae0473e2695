"""`tollhouse spool`: what edges have on disk that Kafka does not have yet, and how it gets there."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from services.cli import settings as settings_file
from services.cli.columns import table
from services.cli.outcome import done
from services.edge.orphans import close_orphans
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.service import run_command
from services.runtime.spool.pump import Pump
from services.runtime.spool.segment import SpoolFailed
from services.runtime.spool.store import LOCK_NAME, Spool
from services.runtime.spool.survey import Survey, survey, surveyed

HEAD = ("spool", "id", "state", "waiting", "open", "bytes", "refused", "oldest")
# Nothing new begins in a spool that is replayed, so that its limit has nothing to decide.
BYTES_MAX = sys.maxsize


@click.group()
def spool() -> None:
    """Look at the events that wait on this machine for Kafka, and publish a dead process's."""


@spool.command("list")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The root of the spools.  [default: edge.spool.directory]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_spools(path: Path | None, directory: Path | None, as_json: bool) -> None:
    """Show every spool: whose it is, what waits in it, and since when.

    `waiting` are entries that Kafka has not acknowledged, `open` exchanges without an end, `refused` the
    bytes of what Kafka did not take (`tollhouse spool refused list`). Running edges are not disturbed.
    """
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    root = directory or Path(loaded.edge.spool.directory)
    found = done(lambda: _found(root))
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode({**each._asdict(), "directory": str(each.directory)}))
        return
    click.echo(table(HEAD, [_row(each) for each in found]))
    for each in found:
        if each.fault:
            click.echo(f"{each.directory.name}: {each.fault}", err=True)


def _found(root: Path) -> list[Survey]:
    if not root.is_dir():
        raise StartRefused(f"{root} is no directory: has an edge run with this configuration?")
    return list(surveyed(root))


def _row(each: Survey) -> Sequence[object]:
    state = "damaged" if each.fault else "running" if each.is_held else "nobody's"
    oldest = f"{each.oldest_at:%Y-%m-%d %H:%M:%S}" if each.oldest_at else "-"
    counts = (each.entries, each.open_exchanges, each.bytes, each.refused_bytes)
    return (each.directory.name, each.source_id or "-", state, *counts, oldest)


@spool.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be published, and publish nothing.")
@click.pass_obj
def replay(path: Path | None, directory: Path, dry_run: bool) -> None:
    """Publish the spool of a process that is dead: DIRECTORY is one spool, such as .tollhouse/spool/0000.

    Exchanges that it left open are closed as orphaned, as a starting edge would do it. May be run again at
    any time: what Kafka has acknowledged is not published again, and ids make a repetition harmless.
    """
    loaded = done(lambda: settings_file.load(path, os.environ, {}))
    found = done(lambda: _abandoned(directory))
    if not found.entries and not found.open_exchanges:
        click.echo(f"{directory}: nothing to publish")
        return
    click.echo(f"{directory}: {found.entries} entries to publish, {found.open_exchanges} exchanges to close")
    if dry_run:
        return
    raise SystemExit(run_command(lambda stopping: _replayed(directory, loaded.kafka, stopping)))


def _abandoned(directory: Path) -> Survey:
    if not (directory / LOCK_NAME).is_file():
        raise StartRefused(f"{directory} is no spool; `tollhouse spool list` names them.")
    found = survey(directory)
    if found.is_held:
        raise StartRefused(f"{directory} belongs to a running process, which publishes it itself.")
    if found.fault:
        raise StartRefused(f"{directory} cannot be read: {found.fault}.")
    return found


async def _replayed(directory: Path, kafka: KafkaConfig, stopping: asyncio.Event) -> None:
    own, publisher = Spool(directory, BYTES_MAX), Publisher(kafka)
    try:
        closed = close_orphans(own, datetime.now(UTC))
        pump, published = Pump(own, publisher), 0
        while not pump.is_idle and not stopping.is_set():
            published += await pump.publish_round()
            click.echo(f"published {published} entries, {own.entries} to go")
    except (PublishFailed, SpoolFailed) as exc:
        raise ServiceStopped(
            f"{exc}; {own.entries} entries are left in {directory}, to be published when this is run again."
        ) from exc
    finally:
        left = own.open_exchanges
        await publisher.close()
        own.close()
    if stopping.is_set() and not pump.is_idle:
        raise ServiceStopped(f"{own.entries} entries are left in {directory}: run it again.")
    if left:
        raise StartRefused(f"{left} exchanges in {directory} could not be closed: is its disk full?")
    click.echo(f"done: {published} entries published, {closed} exchanges closed as orphaned")
