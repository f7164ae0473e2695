"""Runs the local ClickHouse as a process; exits 2 with one sentence if it cannot start."""

import sys
from pathlib import Path

import click

from services.local.clickhouse.access import Account
from services.local.clickhouse.server import MEMORY_BYTES_MAX_DEFAULT, ServerConfig, serve
from services.runtime.errors import StartRefused
from services.runtime.telemetry import configure_logging


@click.command()
@click.option(
    "--data-dir", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where data is kept."
)
@click.option(
    "--port", default=8123, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="An address of this machine's loopback.")
@click.option("--memory-bytes-max", default=MEMORY_BYTES_MAX_DEFAULT, show_default=True, type=int)
@click.option("--user", default="default", show_default=True, envvar="CLICKHOUSE_USER", show_envvar=True)
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The user's password; without it, CLICKHOUSE_PASSWORD is, or else none is asked for.",
)
@click.option("--password", envvar="CLICKHOUSE_PASSWORD", hidden=True, default="")
def main(
    data_dir: Path,
    port: int,
    host: str,
    memory_bytes_max: int,
    user: str,
    password_file: Path | None,
    password: str,
) -> None:
    """Serve ClickHouse's HTTP interface on loopback, over an engine inside this process."""
    if password_file is not None:
        password = password_file.read_text().strip()
    config = ServerConfig(
        data_dir=data_dir,
        host=host,
        port=port,
        memory_bytes_max=memory_bytes_max,
        account=Account(user=user, password=password),
    )
    configure_logging("local-clickhouse")
    try:
        serve(config)
    except StartRefused as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
