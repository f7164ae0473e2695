"""The commands of `tollhouse`; each reads the configuration, starts one thing, and ends with an exit code.

0 is done, 1 is a failure while running, 2 is a request that cannot be met (3 is `verify`'s: late, not lost);
no command shows a traceback for a person's mistake.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog

from services.batch_tracker.main import run_batch_tracker
from services.cli import settings as settings_file
from services.cli.batches import batches
from services.cli.dlq import dlq
from services.cli.explain import explain
from services.cli.keys import keys
from services.cli.missing import missing
from services.cli.outcome import done
from services.cli.prices import prices
from services.cli.refused import refused
from services.cli.replay import replay
from services.cli.reprice import reprice
from services.cli.settings import Settings, Source
from services.cli.spool import spool
from services.cli.tail import tail
from services.cli.teams import teams
from services.cli.up import up
from services.cli.verify import verify
from services.edge.main import run_edge
from services.edge.reload import Read
from services.rating.main import run_rating
from services.runtime.service import Main, run_service
from services.runtime.tables import migrate_tables
from services.runtime.topics import migrate_topics
from services.sink.main import run_sink

log = structlog.get_logger(__name__)

# Who holds keys: what a file takes from the environment for these must be there before they start.
NEEDED_BY_EDGE = ("edge",)
NEEDED_BY_BATCH_TRACKER = ("batch_tracker",)
# Who calls upstream, and its section.
WITH_CREDENTIAL = {"edge": "edge", "batch-tracker": "batch_tracker"}
NO_CREDENTIAL = "none: callers come with their own"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="TOLLHOUSE_CONFIG",
    help="YAML file of settings; the environment goes before it. Also TOLLHOUSE_CONFIG.",
)
@click.version_option(package_name="tollhouse")
@click.pass_context
def main(context: click.Context, path: Path | None) -> None:
    """Tollhouse: a gateway for the Anthropic API that accounts for every token that passes it."""
    # What a person needs of its retries is in the one sentence that ends a command.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    context.obj = path


@main.command()
@click.option("--host", help="Address to listen on; without a master key only loopback is allowed.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 4000]")
@click.pass_obj
def edge(path: Path | None, host: str | None, port: int | None) -> None:
    """Serve clients: forward to Anthropic, publish events to Kafka."""
    options = {"edge.host": host, "edge.port": port}
    source, loaded = _loaded(path, options, NEEDED_BY_EDGE)

    def reread() -> Read:
        again = settings_file.load(path, os.environ, options, NEEDED_BY_EDGE)
        return Read(again.edge, again.kafka)

    _serve("edge", source, lambda stopping: run_edge(loaded.edge, loaded.kafka, stopping, reread))


@main.command()
@click.pass_obj
def rating(path: Path | None) -> None:
    """Price usage: gateway.usage.v1 to gateway.rated.v1."""
    source, loaded = _loaded(path)
    _serve("rating", source, lambda stopping: run_rating(loaded.rating, loaded.kafka, stopping))


@main.command()
@click.pass_obj
def sink(path: Path | None) -> None:
    """Store events: requests, responses, rated usage and heartbeats into ClickHouse."""
    source, loaded = _loaded(path)
    _serve("sink", source, lambda stopping: run_sink(loaded.sink, loaded.clickhouse, loaded.kafka, stopping))


@main.command("batch-tracker")
@click.pass_obj
def batch_tracker(path: Path | None) -> None:
    """Follow message batches to their end and publish the usage of their items."""
    source, loaded = _loaded(path, needed=NEEDED_BY_BATCH_TRACKER)
    _serve(
        "batch-tracker",
        source,
        lambda stopping: run_batch_tracker(loaded.batch_tracker, loaded.kafka, stopping),
    )


@main.command()
@click.pass_obj
def migrate(path: Path | None) -> None:
    """Create and check Kafka's topics and ClickHouse's tables; refuses what differs."""
    _, loaded = _loaded(path)
    created = done(lambda: asyncio.run(migrate_topics(loaded.kafka)))
    for name in created:
        click.echo(f"created topic {name}")
    applied = done(lambda: asyncio.run(migrate_tables(loaded.clickhouse)))
    for each in applied:
        click.echo(f"applied {each.name}")
    if not created and not applied:
        click.echo("nothing to do: topics and tables are as this version expects")


@main.command("check-config")
@click.pass_obj
def check_config(path: Path | None) -> None:
    """Read the configuration and print every fault; exit 0 if there is none.

    Of a LiteLLM proxy_config.yaml it also prints what is left out, and what may be missed for it.
    """
    source, loaded = _loaded(path, needed=settings_file.SECTIONS)
    click.echo(f"file      {source.path or 'none'}" + (f", read as {source.kind}" if source.path else ""))
    origin = settings_file.credential_origin(source, os.environ, "edge")
    credential = f"the gateway's credential, {origin}" if origin else "each caller's own key"
    callers = "the master key" if loaded.edge.master_key else "no key of the gateway's"
    click.echo(f"edge      {loaded.edge.host}:{loaded.edge.port}, callers show {callers}")
    click.echo(f"upstream  {loaded.edge.upstream.base_url} with {credential}")
    click.echo(f"batches   {_followed(loaded)}")
    click.echo(f"spool     {loaded.edge.spool.directory}, at most {loaded.edge.spool.bytes_max} bytes")
    click.echo(f"kafka     {loaded.kafka.bootstrap_servers}")
    click.echo(f"clickhouse  {loaded.clickhouse.url} as {loaded.clickhouse.user}")
    for each in source.ignored:
        click.echo(f"ignored   {each.path}" + (f": {each.risk}" if each.risk else ""))
    click.echo("the configuration has no faults")


def _followed(loaded: Settings) -> str:
    """Say which batches are booked by the batch tracker, and which when their results are read."""
    edge_name = loaded.edge.upstream.name if loaded.edge.upstream.has_credential else ""
    name = loaded.batch_tracker.upstream.credential
    if not edge_name:
        return "booked when their results are read: they are made under each caller's own key"
    if edge_name != name:
        return f"NOT followed: the batch tracker holds {name or 'no credential'}, the edge {edge_name}"
    return f"followed under the credential {name}"


def _loaded(
    path: Path | None, overrides: Mapping[str, Any] | None = None, needed: Collection[str] = ()
) -> tuple[Source, Settings]:
    source = done(lambda: settings_file.read(path, os.environ))
    return source, done(lambda: settings_file.settings_of(source, os.environ, overrides or {}, needed))


def _serve(name: str, source: Source, main: Main) -> NoReturn:
    """Run a service to its end; first it says what its file wants in vain, and whose credential it has."""

    async def announced(stopping: asyncio.Event) -> None:
        if source.ignored:
            risks = {each.path: each.risk for each in source.ignored if each.risk}
            harmless = [each.path for each in source.ignored if not each.risk]
            log.warning("config.ignored", file=str(source.path), risks=risks, harmless=harmless)
        if name in WITH_CREDENTIAL:
            origin = settings_file.credential_origin(source, os.environ, WITH_CREDENTIAL[name])
            log.info("config.credential", origin=origin or NO_CREDENTIAL)
        await main(stopping)

    sys.exit(run_service(name, announced))


main.add_command(up)
main.add_command(tail)
main.add_command(prices)
prices.add_command(missing)
main.add_command(replay)
main.add_command(reprice)
main.add_command(explain)
main.add_command(spool)
spool.add_command(refused)
main.add_command(dlq)
main.add_command(batches)
main.add_command(keys)
main.add_command(teams)
main.add_command(verify)
