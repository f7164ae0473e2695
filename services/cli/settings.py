"""Reads the whole configuration at once, so that every command finds every fault of every room."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from services.edge import config as edge
from services.rating import config as rating
from services.runtime import clickhouse, config, kafka
from services.sink import config as sink

SECTIONS = {
    "kafka": kafka.KafkaConfig,
    "clickhouse": clickhouse.ClickHouseConfig,
    "edge": edge.EdgeConfig,
    "rating": rating.RatingConfig,
    "sink": sink.SinkConfig,
}
ENVIRONMENT = (
    *kafka.ENVIRONMENT,
    *clickhouse.ENVIRONMENT,
    *edge.ENVIRONMENT,
    *rating.ENVIRONMENT,
    *sink.ENVIRONMENT,
)


class Settings(NamedTuple):
    """Every room's configuration."""

    kafka: kafka.KafkaConfig
    clickhouse: clickhouse.ClickHouseConfig
    edge: edge.EdgeConfig
    rating: rating.RatingConfig
    sink: sink.SinkConfig


def configured(path: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the texts that were set by hand, by their dotted paths; what is left to its default is absent."""
    merged = config.overlay(config.read_file(path), environ, ENVIRONMENT)
    return {path: value for path, value in config.leaves(merged) if isinstance(value, str)}


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """Lay the environment over the file and a command's options over both; ConfigFaults names all faults.

    `overrides` are dotted paths from the section's name, such as `edge.port`.
    """
    merged = config.overlay(config.read_file(path), environ, ENVIRONMENT)
    merged = config.override(merged, overrides)
    decoded = config.decode(merged, SECTIONS)
    return Settings(
        kafka=cast("kafka.KafkaConfig", decoded["kafka"]),
        clickhouse=cast("clickhouse.ClickHouseConfig", decoded["clickhouse"]),
        edge=cast("edge.EdgeConfig", decoded["edge"]),
        rating=cast("rating.RatingConfig", decoded["rating"]),
        sink=cast("sink.SinkConfig", decoded["sink"]),
    )
