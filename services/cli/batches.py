"""`tollhouse batches`: how far message batches are booked, and taking in one that nobody announced."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from services.batch_tracker.anthropic import Anthropic
from services.batch_tracker.errors import AccessRefused, NotThere, TryLater
from services.batch_tracker.facts import adoption_of, record_of
from services.batch_tracker.throttle import Throttle
from services.cli import settings as settings_file
from services.cli.columns import printable, table
from services.cli.outcome import done
from services.cli.settings import Settings
from services.runtime.clickhouse import ClickHouse, StoreError
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.publisher import Publisher, PublishFailed

ROWS_MAX = 1_000
FOLLOW_S = 1.0
# What nothing more happens to, so that `show --follow` ends.
ENDS = ("booked", "mismatch", "unreadable", "gone", "deleted")
HEADS = ("batch", "phase", "created", "items", "booked", "cost", "key", "lag")
_COLUMNS = (
    "batch_id, phase, status, created_at, expires_at, ended_at, closed_at, lag_s, requests, succeeded, "
    "errored, canceled, expired, items_booked, malformed, items, items_unpriced, cost_usd, "
    "virtual_key_id, team_id, credential, is_adopted, models, error"
)
_LIST = (
    f"SELECT {_COLUMNS} FROM tollhouse.batches WHERE ({{phase:String}} = '' OR phase = {{phase:String}}) "
    "AND ({key:String} = '' OR virtual_key_id = {key:String}) "
    "ORDER BY created_at DESC LIMIT {limit:UInt32}"
)
_SHOW = f"SELECT {_COLUMNS} FROM tollhouse.batches WHERE batch_id = {{batch_id:String}}"
_JSON = msgspec.json.Encoder()


class Batch(NamedTuple):
    """A batch as the view `tollhouse.batches` has it."""

    batch_id: str
    phase: str
    status: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    closed_at: datetime | None
    lag_s: int | None
    requests: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    items_booked: int
    malformed: int
    items: int
    items_unpriced: int
    cost_usd: Decimal | None
    virtual_key_id: str
    team_id: str
    credential: str
    is_adopted: bool
    models: Sequence[str]
    error: str


@click.group()
def batches() -> None:
    """Look at message batches, and take in one that was made elsewhere."""


@batches.command("list")
@click.option("--phase", default="", help="Only batches in this phase: waiting, booking, booked, ...")
@click.option("--key", default="", help="Only batches of this virtual key.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, ROWS_MAX))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a batch, one a line.")
@click.pass_obj
def list_(path: Path | None, phase: str, key: str, limit: int, as_json: bool) -> None:
    """Print batches, the newest first: how far each is, and what its items cost."""
    asked = {"phase": phase, "key": key, "limit": limit}
    settings = _settings(path)
    found = done(lambda: asyncio.run(_asked(settings, _LIST, asked)))
    if as_json:
        for each in found:
            click.echo(_JSON.encode(each._asdict()))
        return
    if not found:
        click.echo("no batches: none was made, or the batch tracker and the sink have not told of any")
        return
    click.echo(table(HEADS, [_cells(each) for each in found]))


@batches.command()
@click.argument("batch_id")
@click.option("--follow", is_flag=True, help="Go on until it is booked, and say how far it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def show(path: Path | None, batch_id: str, follow: bool, as_json: bool) -> None:
    """Print everything that is known of one batch."""
    settings = _settings(path)
    batch = _found(settings, batch_id)
    while follow and (batch.phase not in ENDS or batch.items < batch.items_booked):
        click.echo(f"{batch.phase}: {batch.items_booked} of {batch.requests} items booked", err=True)
        time.sleep(FOLLOW_S)
        batch = _found(settings, batch_id)
    if as_json:
        click.echo(_JSON.encode(batch._asdict()))
        return
    for name, value in _lines(batch):
        click.echo(f"{name:<11} {printable(value)}")


@batches.command()
@click.argument("batch_id")
@click.pass_obj
def adopt(path: Path | None, batch_id: str) -> None:
    """Have a batch booked that no fact names, or have one tried again that came to a bad end.

    It is asked for under the batch tracker's credential; where nobody is known to have made it, its items are
    booked as `unattributed`.
    """
    settings = _settings(path)
    status = done(lambda: asyncio.run(_adopted(settings, batch_id)))
    click.echo(f"told the batch tracker of {batch_id} ({status}); see `tollhouse batches show {batch_id}`")


def _settings(path: Path | None) -> Settings:
    return done(lambda: settings_file.load(path, os.environ, {}))


def _found(settings: Settings, batch_id: str) -> Batch:
    return done(lambda: asyncio.run(_one(settings, batch_id)))


async def _one(settings: Settings, batch_id: str) -> Batch:
    found = await _asked(settings, _SHOW, {"batch_id": batch_id})
    if not found:
        raise StartRefused(
            f"there is no batch {batch_id}; for one made elsewhere: tollhouse batches adopt {batch_id}."
        )
    return found[0]


async def _asked(settings: Settings, query: str, asked: Mapping[str, str | int]) -> list[Batch]:
    async with ClickHouse(settings.clickhouse) as clickhouse:
        try:
            rows = await clickhouse.rows(query, asked)
        except StoreError as exc:
            raise StartRefused(f"cannot read from ClickHouse at {settings.clickhouse.url}: {exc}.") from exc
    return [msgspec.convert([_in_utc(value) for value in row], Batch, strict=False) for row in rows]


def _in_utc(value: object) -> object:
    """Say of a time that it is UTC: ClickHouse's client leaves that out."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


async def _adopted(settings: Settings, batch_id: str) -> str:
    config = settings.batch_tracker
    if not config.upstream.credential:
        raise StartRefused("batch_tracker.upstream has no credential: set ANTHROPIC_API_KEY.")
    publisher = Publisher(settings.kafka)
    try:
        async with Anthropic(config.upstream, Throttle(config.requests_per_minute_max)) as anthropic:
            found = await anthropic.batch(batch_id)
        facts = adoption_of(found, datetime.now(UTC))
        await publisher.publish([record_of(fact) for fact in facts])
    except NotThere as exc:
        raise StartRefused(
            f"Anthropic has no batch {batch_id} under the credential {config.upstream.name}."
        ) from exc
    except AccessRefused as exc:
        raise StartRefused(f"{exc}: the credential {config.upstream.name} may not read batches.") from exc
    except TryLater as exc:
        raise ServiceStopped(f"{exc}. Try again.") from exc
    except PublishFailed as exc:
        raise ServiceStopped(f"Kafka at {settings.kafka.bootstrap_servers} did not take it: {exc}.") from exc
    finally:
        await publisher.close()
    return found.seen.status


def _cells(batch: Batch) -> list[object]:
    return [
        batch.batch_id,
        batch.phase,
        f"{batch.created_at:%Y-%m-%d %H:%M}",
        batch.requests,
        batch.items_booked,
        _cost(batch),
        batch.virtual_key_id,
        "-" if batch.lag_s is None else f"{batch.lag_s} s",
    ]


def _cost(batch: Batch) -> str:
    if batch.cost_usd is None:
        return "-"
    more = f" and {batch.items_unpriced} unpriced" if batch.items_unpriced else ""
    return f"${batch.cost_usd.normalize():f}{more}"


def _lines(batch: Batch) -> list[tuple[str, str]]:
    ended = "-" if batch.ended_at is None else f"{batch.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    counts = ", ".join(
        f"{getattr(batch, name)} {name}" for name in ("succeeded", "errored", "canceled", "expired")
    )
    booked = f"{batch.items_booked} of {batch.requests}, {batch.items} stored"
    lag = "" if batch.lag_s is None else f", {batch.lag_s} s after its end"
    return [
        ("batch", batch.batch_id),
        ("phase", batch.phase + (f": {batch.error}" if batch.error else "")),
        ("anthropic", batch.status),
        ("created", f"{batch.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", ended),
        ("counts", counts),
        ("booked", booked + lag + (f"; {batch.malformed} lines unreadable" if batch.malformed else "")),
        ("cost", _cost(batch)),
        ("creator", batch.virtual_key_id + (f" of {batch.team_id}" if batch.team_id else "")),
        ("credential", batch.credential or "the caller's own key"),
        ("models", ", ".join(batch.models) or "-"),
    ]
