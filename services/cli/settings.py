"""Reads the whole configuration at once, so that every command finds every fault of every room."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from services.batch_tracker import config as batch_tracker
from services.cli.litellm_config import Ignored, Translation, is_litellm, translate
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
    "batch_tracker": batch_tracker.BatchTrackerConfig,
}
ENVIRONMENT = (
    *kafka.ENVIRONMENT,
    *clickhouse.ENVIRONMENT,
    *edge.ENVIRONMENT,
    *rating.ENVIRONMENT,
    *sink.ENVIRONMENT,
    *batch_tracker.ENVIRONMENT,
)


class Settings(NamedTuple):
    """Every room's configuration."""

    kafka: kafka.KafkaConfig
    clickhouse: clickhouse.ClickHouseConfig
    edge: edge.EdgeConfig
    rating: rating.RatingConfig
    sink: sink.SinkConfig
    batch_tracker: batch_tracker.BatchTrackerConfig


class Source(NamedTuple):
    """A file of settings, as it came; `translation` is set where it is one of LiteLLM's."""

    path: Path | None
    settings: config.Mapped
    translation: Translation | None = None

    @property
    def kind(self) -> str:
        """Name the file's kind, for people."""
        return "tollhouse.yaml" if self.translation is None else "LiteLLM's proxy_config.yaml"

    @property
    def variables(self) -> Sequence[config.Variable]:
        """Name the variables of the environment that go before the file."""
        outranked = frozenset[config.Variable]() if self.translation is None else self.translation.outranked
        return [each for each in ENVIRONMENT if each not in outranked]

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """Name what a LiteLLM file says and Tollhouse does not do."""
        return () if self.translation is None else self.translation.ignored


def read(path: Path | None, environ: Mapping[str, str]) -> Source:
    """Read a file of settings of either kind; StartRefused where it cannot be read."""
    document = config.read_file(path)
    if not is_litellm(document):
        return Source(path, document)
    ours = [name for name in document if name in SECTIONS]
    if ours:
        faults = [f"{name}: a LiteLLM file has no such section; use the environment" for name in ours]
        raise config.ConfigFaults(faults)
    translation = translate(document, environ, ENVIRONMENT)
    return Source(path, translation.settings, translation)


def configured(path: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Give the texts that were set by hand, by their dotted paths; what is left to its default is absent."""
    source = read(path, environ)
    merged = config.overlay(source.settings, environ, source.variables)
    return {path: value for path, value in config.leaves(merged) if isinstance(value, str)}


def credential_origin(source: Source, environ: Mapping[str, str], section: str) -> str:
    """Say where a section has the gateway's credential from, never what it is; "" where it has none."""
    given = dict(config.leaves(source.settings))
    for name in ("api_key", "auth_token"):  # the first goes before the second
        setting = f"{section}.upstream.{name}"
        for variable in source.variables:
            if variable.path == setting and environ.get(variable.name, "") != "":
                return f"{variable.name} of the environment"
        if given.get(setting, "") not in ("", None):
            place = setting if source.translation is None else source.translation.origins[setting]
            return f"{place} of {source.path}"
    return ""


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    needed: Collection[str] = (),
) -> Settings:
    """Lay the environment over the file and a command's options over both; ConfigFaults names all faults.

    `overrides` are dotted paths from the section's name, such as `edge.port`. `needed` are the sections for
    which the environment must hold what a LiteLLM file takes from there: rating sees no key of the edge's.
    """
    return settings_of(read(path, environ), environ, overrides, needed)


def settings_of(
    source: Source,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    needed: Collection[str] = (),
) -> Settings:
    """Decode what was read; for the rest as `load`."""
    merged = config.overlay(source.settings, environ, source.variables)
    decoded = _decoded(config.override(merged, overrides), source.translation, needed)
    return Settings(
        kafka=cast("kafka.KafkaConfig", decoded["kafka"]),
        clickhouse=cast("clickhouse.ClickHouseConfig", decoded["clickhouse"]),
        edge=cast("edge.EdgeConfig", decoded["edge"]),
        rating=cast("rating.RatingConfig", decoded["rating"]),
        sink=cast("sink.SinkConfig", decoded["sink"]),
        batch_tracker=cast("batch_tracker.BatchTrackerConfig", decoded["batch_tracker"]),
    )


def _decoded(
    merged: config.Mapped, translation: Translation | None, needed: Collection[str]
) -> Mapping[str, object]:
    if translation is None:
        return config.decode(merged, SECTIONS)
    given = dict(config.leaves(merged))
    unset = [each for each in translation.unset if each.setting not in given]
    missing = (each.fault for each in unset if each.setting.partition(".")[0] in needed)
    faults = [*dict.fromkeys(missing), *translation.faults]
    try:
        decoded = config.decode(merged, SECTIONS)
    except config.ConfigFaults as exc:
        raise config.ConfigFaults([*faults, *_placed(exc.faults, translation.origins)]) from exc
    if faults:
        raise config.ConfigFaults(faults)
    return decoded


def _placed(faults: Sequence[str], origins: Mapping[str, str]) -> list[str]:
    """Name beside each setting the place where a LiteLLM file has it."""
    placed: list[str] = []
    for fault in faults:
        setting, colon, what = fault.partition(":")
        origin = origins.get(setting)
        placed.append(fault if origin is None else f"{setting} (from {origin}){colon}{what}")
    return placed
