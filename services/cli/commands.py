"""The commands of `tollhouse`; each reads the configuration, starts one thing, and ends with an exit code.

0 is done, 1 is a failure while running, 2 is a request that cannot be met; no command shows a traceback
for a person's mistake.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from services.cli import settings as settings_file
from services.cli.dlq import dlq
from services.cli.explain import explain
from services.cli.missing import missing
from services.cli.outcome import done
from services.cli.prices import prices
from services.cli.reprice import reprice
from services.cli.settings import Settings
from services.cli.spool import spool
from services.cli.tail import tail
from services.cli.up import up
from services.edge.main import run_edge
from services.rating.main import run_rating
from services.runtime.service import run_service
from services.runtime.tables import migrate_tables
from services.runtime.topics import migrate_topics
from services.sink.main import run_sink


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
    loaded = _loaded(path, {"edge.host": host, "edge.port": port})
    sys.exit(run_service("edge", lambda stopping: run_edge(loaded.edge, loaded.kafka, stopping)))


@main.command()
@click.pass_obj
def rating(path: Path | None) -> None:
    """Price usage: gateway.usage.v1 to gateway.rated.v1."""
    loaded = _loaded(path)
    sys.exit(run_service("rating", lambda stopping: run_rating(loaded.rating, loaded.kafka, stopping)))


@main.command()
@click.pass_obj
def sink(path: Path | None) -> None:
    """Store events: requests, responses, rated usage and heartbeats into ClickHouse."""
    loaded = _loaded(path)
    sys.exit(
        run_service("sink", lambda stopping: run_sink(loaded.sink, loaded.clickhouse, loaded.kafka, stopping))
    )


@main.command()
@click.pass_obj
def migrate(path: Path | None) -> None:
    """Create and check Kafka's topics and ClickHouse's tables; refuses what differs."""
    loaded = _loaded(path)
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
    """Read the configuration and print every fault; exit 0 if there is none."""
    loaded = _loaded(path)
    credential = (
        "the gateway's credential" if loaded.edge.upstream.has_credential else "each caller's own key"
    )
    callers = "the master key" if loaded.edge.master_key else "no key of the gateway's"
    click.echo(f"edge      {loaded.edge.host}:{loaded.edge.port}, callers show {callers}")
    click.echo(f"upstream  {loaded.edge.upstream.base_url} with {credential}")
    click.echo(f"spool     {loaded.edge.spool.directory}, at most {loaded.edge.spool.bytes_max} bytes")
    click.echo(f"kafka     {loaded.kafka.bootstrap_servers}")
    click.echo(f"clickhouse  {loaded.clickhouse.url} as {loaded.clickhouse.user}")
    click.echo("the configuration has no faults")


def _loaded(path: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    return done(lambda: settings_file.load(path, os.environ, overrides or {}))


main.add_command(up)
main.add_command(tail)
main.add_command(prices)
prices.add_command(missing)
main.add_command(reprice)
main.add_command(explain)
main.add_command(spool)
main.add_command(dlq)
