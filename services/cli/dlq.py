"""`tollhouse dlq`: what consumers set aside, why, and how it is sent back; bodies only on request."""

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from schemas.dead_letters import REDRIVE, DeadLetter
from schemas.topics import DLQ_SUFFIX
from services.cli import settings as settings_file
from services.cli.columns import printable, table
from services.cli.outcome import done
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.redrive import Position, Summary, dead_letter_topics, letters, redrive, summaries
from services.runtime.service import run_command

HEAD = ("topic", "partition", "offset", "stage", "error_class", "dead_at", "bytes", "redriven_at")
ROWS = 1_000


@click.group()
def dlq() -> None:
    """Look at records that a consumer could not use, and send them back.

    A dead letter is named by where its record lay, as logs and the table of dead letters name it: topic,
    partition and offset.
    """


class Wanted(NamedTuple):
    """Which dead letters are meant; "" is any."""

    topic: str
    error_class: str
    stage: str


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which dead letters are meant."""

    @click.option("--topic", default="", help="Only records of this topic.  [default: every topic]")
    @click.option("--error-class", default="", help="Only what died of this.")
    @click.option("--stage", default="", help="Only what this stage set aside.")
    @functools.wraps(command)
    def with_options(*arguments: object, topic: str, error_class: str, stage: str, **options: object) -> None:
        command(*arguments, wanted=Wanted(topic, error_class, stage), **options)

    return with_options


@dlq.command("list")
@_filtered
@click.option("--all", "with_redriven", is_flag=True, help="Show those that were sent back as well.")
@click.option("--limit", type=click.IntRange(1), default=ROWS, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_letters(
    path: Path | None,
    wanted: Wanted,
    with_redriven: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show dead letters, oldest first: where the record lay, who set it aside, why and when."""
    found = _selected(_kafka(path), wanted)
    listed = [each for each in found if with_redriven or each.redriven_at is None]
    shown = listed[-limit:]
    if as_json:
        for each in shown:
            click.echo(msgspec.json.encode(dict(zip(HEAD, _cells(each), strict=True))))
        return
    click.echo(table(HEAD, [_row(each) for each in shown]))
    redriven = sum(each.redriven_at is not None for each in found)
    click.echo(f"{len(shown)} of {len(listed)} shown, {redriven} sent back before", err=True)


@dlq.command()
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="One JSON object; the value in base64.")
@click.pass_obj
def show(path: Path | None, topic: str, partition: int, offset: int, as_json: bool) -> None:
    """Show one dead letter with its headers and its value, which may hold what a caller wrote."""
    kafka = _kafka(path)
    position = Position(topic.removesuffix(DLQ_SUFFIX), partition, offset)
    letter = done(lambda: asyncio.run(_letter(kafka, position)))
    if as_json:
        members = {name: getattr(letter, name) for name in letter.__struct_fields__ if name != "key"}
        click.echo(msgspec.json.encode(members))
        return
    click.echo(f"{letter.topic} partition {letter.partition} offset {letter.offset}")
    click.echo(f"set aside by {letter.stage} at {letter.dead_at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(printable(f"{letter.error_class}: {letter.error}"))
    for name, value in letter.headers:
        click.echo(printable(f"  {name}: {value.decode(errors='replace')}"))
    if letter.value is None:
        click.echo("no value: a tombstone")
    else:
        click.echo(f"{len(letter.value)} bytes:")
        click.echo(printable(letter.value.decode(errors="replace")))


@dlq.command("redrive")
@_filtered
@click.option("--partition", type=click.IntRange(0), help="With --topic and --offset: this one alone.")
@click.option("--offset", type=click.IntRange(0))
@click.option("--all", "everything", is_flag=True, help="Whatever fits the other options.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent back, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def redrive_letters(
    path: Path | None,
    wanted: Wanted,
    everything: bool,
    dry_run: bool,
    yes: bool,
    partition: int | None,
    offset: int | None,
) -> None:
    """Send records back to the topic that they came from, with their own bytes, key and headers.

    Do it when what killed them is mended. Each goes back once, however often this is run; one that dies
    again is a new dead letter. To go twice would change nothing downstream: its ids stay.
    """
    kafka = _kafka(path)
    is_one = partition is not None and offset is not None and bool(wanted.topic)
    if (partition is not None or offset is not None) and not is_one:
        raise click.UsageError("one record is named by --topic, --partition and --offset together.")
    if not is_one and not everything and not wanted.error_class:
        raise click.UsageError("say what: --topic, --partition and --offset, --error-class, or --all.")
    waiting = [each for each in _selected(kafka, wanted) if each.redriven_at is None]
    chosen = [each for each in waiting if not is_one or each.position[1:] == (partition, offset)]
    if not chosen:
        click.echo("nothing to send back")
        return
    click.echo(table(HEAD[:-1], [_row(each)[:-1] for each in chosen[:ROWS]]))
    if dry_run:
        click.echo(f"{len(chosen)} records would be sent back")
        return
    if not yes:
        click.confirm(f"Send {len(chosen)} records back?", abort=True)

    async def sent(stopping: asyncio.Event) -> None:
        async for count in redrive(kafka, chosen):
            click.echo(f"sent {count} of {len(chosen)}")
            if stopping.is_set():
                return

    raise SystemExit(run_command(sent))


def _kafka(path: Path | None) -> KafkaConfig:
    return done(lambda: settings_file.load(path, os.environ, {})).kafka


def _selected(kafka: KafkaConfig, wanted: Wanted) -> list[Summary]:
    topics = done(lambda: dead_letter_topics(wanted.topic))
    found = done(lambda: asyncio.run(summaries(kafka, topics)))
    return [
        each
        for each in found
        if wanted.error_class in ("", each.error_class) and wanted.stage in ("", each.stage)
    ]


async def _letter(kafka: KafkaConfig, position: Position) -> DeadLetter:
    found: DeadLetter | None = None
    async for _, letter in letters(kafka, dead_letter_topics(position.topic)):
        if (letter.topic, letter.partition, letter.offset) == position and letter.stage != REDRIVE:
            found = letter
    if found is None:
        raise StartRefused(
            f"there is no dead letter of {position.topic} {position.partition} {position.offset}."
        )
    return found


def _cells(each: Summary) -> Sequence[object]:
    return (*each.position, each.stage, each.error_class, each.dead_at, each.bytes, each.redriven_at)


def _row(each: Summary) -> Sequence[object]:
    redriven = f"{each.redriven_at:%Y-%m-%d %H:%M:%S}" if each.redriven_at else "-"
    return (*_cells(each)[:5], f"{each.dead_at:%Y-%m-%d %H:%M:%S}", each.bytes, redriven)
