"""Runs the local Kafka as a process of its own; decides nothing but what its options mean."""

import asyncio
import sys
from pathlib import Path

import click

from services.local.kafka.broker import BrokerSettings
from services.local.kafka.coordinator import SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN
from services.local.kafka.server import RETENTION_INTERVAL_S, KafkaServer
from services.local.kafka.topics import PARTITIONS_PER_TOPIC_MAX
from services.runtime.service import run_service


@click.command()
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where records are kept.",
)
@click.option(
    "--port", default=9092, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="An address of this machine's loopback.")
@click.option(
    "--auto-create-partitions",
    default=0,
    show_default=True,
    type=click.IntRange(0, PARTITIONS_PER_TOPIC_MAX),
    help="Create unknown topics with so many partitions; 0 leaves them unknown.",
)
@click.option(
    "--session-timeout-ms-min",
    default=SESSION_TIMEOUT_MS_MIN,
    show_default=True,
    type=click.IntRange(1, SESSION_TIMEOUT_MS_MAX),
    help="The shortest session that a member of a group may ask for (group.min.session.timeout.ms).",
)
@click.option(
    "--retention-interval-s",
    default=RETENTION_INTERVAL_S,
    show_default=True,
    type=click.FloatRange(0.01),
    help="How often is looked for what has expired or is to be compacted.",
)
def main(
    data_dir: Path,
    port: int,
    host: str,
    auto_create_partitions: int,
    session_timeout_ms_min: int,
    retention_interval_s: float,
) -> None:
    """Speak Kafka's protocol on loopback, as one broker over one directory."""
    settings = BrokerSettings(
        data_dir=data_dir,
        auto_create_partitions=auto_create_partitions,
        session_timeout_ms_min=session_timeout_ms_min,
    )

    async def serve(stopping: asyncio.Event) -> None:
        server = KafkaServer(settings, retention_interval_s)
        await server.start(host, port)
        await stopping.wait()
        await server.stop()

    sys.exit(run_service("local-kafka", serve))


if __name__ == "__main__":
    main()
