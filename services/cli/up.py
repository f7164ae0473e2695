"""`tollhouse up`: what was asked for on the command line and in the configuration, as one local stack."""

import os
import sys
from pathlib import Path

import click

from services.cli import settings as settings_file
from services.cli.outcome import done
from services.cli.settings import Settings, Source
from services.local.plan import SECRETS, StackOptions, plan
from services.local.supervisor import Stores, run_stack
from services.runtime.service import run_command

CREDENTIALS = frozenset(("edge.upstream.api_key", "edge.upstream.auth_token"))


@click.command()
@click.option(
    "--port", default=4000, show_default=True, type=click.IntRange(1, 65531), help="The edge's port."
)
@click.option("--kafka-port", default=9092, show_default=True, type=click.IntRange(1, 65535))
@click.option("--clickhouse-port", default=8123, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--data-dir",
    default=Path(".tollhouse"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where logs, tables and the spool are kept between runs.",
)
@click.option("--upstream", default="", help="Address of the Anthropic API.  [default: as configured]")
@click.option("--simulate", is_flag=True, help="Use a simulated Anthropic API on the edge's port + 3.")
@click.pass_obj
def up(
    path: Path | None,
    port: int,
    kafka_port: int,
    clickhouse_port: int,
    data_dir: Path,
    upstream: str,
    simulate: bool,
) -> None:
    """Run the whole stack on this machine until Ctrl-C.

    Kafka and ClickHouse are small stand-ins that keep their data in the data directory; each is left out
    where KAFKA_BOOTSTRAP_SERVERS or CLICKHOUSE_URL says where a real one is. The rating and sink services
    and the batch tracker answer probes on the edge's port + 1, + 2 and + 4.
    """
    configured = done(lambda: settings_file.configured(path, os.environ))
    options = StackOptions(
        port=port,
        kafka_port=kafka_port,
        clickhouse_port=clickhouse_port,
        data_dir=data_dir.absolute(),
        kafka=configured.get("kafka.bootstrap_servers", ""),
        clickhouse=configured.get("clickhouse.url", ""),
        upstream=upstream or configured.get("edge.upstream.base_url", "https://api.anthropic.com"),
        is_simulated=simulate,
        has_credential=bool(CREDENTIALS & configured.keys()),
    )
    environ = dict(os.environ) if path is None else {**os.environ, "TOLLHOUSE_CONFIG": str(path.absolute())}
    layout = plan(options)
    loaded = done(lambda: settings_file.load(path, {**environ, **layout.environ}, {}, ("edge",)))
    stores = Stores(kafka=loaded.kafka, clickhouse=loaded.clickhouse)
    source = settings_file.read(path, os.environ)
    origin = settings_file.credential_origin(source, {**environ, **layout.environ}, "edge")
    if origin and not simulate:
        click.echo(f"upstream credential: {origin}")
    environ = _with_keys_in_known_names(source, loaded, environ)
    # A ClickHouse of our own takes the account that the services will come with.
    account = loaded.clickhouse
    environ |= {"CLICKHOUSE_USER": account.user, "CLICKHOUSE_PASSWORD": account.password}
    sys.exit(run_command(lambda stopping: run_stack(layout, stores, environ, stopping, click.echo)))


def _with_keys_in_known_names(source: Source, loaded: Settings, environ: dict[str, str]) -> dict[str, str]:
    """Hand on the keys of a LiteLLM file under the names that only the services which use them get to see."""
    if source.translation is None:
        return environ
    keys = {
        "TOLLHOUSE_ANTHROPIC_API_KEY": loaded.edge.upstream.api_key,
        "TOLLHOUSE_MASTER_KEY": loaded.edge.master_key,
    }
    # What has a known name already is kept from the others by that.
    unknown = source.translation.secret_variables - SECRETS
    others = {name: text for name, text in environ.items() if name not in unknown}
    return {**others, **{name: key for name, key in keys.items() if key}}
