"""Decides what a process is configured to do: one YAML file and the environment in, frozen Structs out.

Every fault is found before any is reported; no other module reads the environment or a file of settings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import msgspec
import yaml

from services.runtime.errors import StartRefused

Mapped = Mapping[str, object]
Section = TypeVar("Section", bound=msgspec.Struct)


class Variable(NamedTuple):
    """An environment variable and the setting that it gives, as a dotted path from the section's name."""

    name: str
    path: str


@runtime_checkable
class Checked(Protocol):
    """A Struct whose settings must also fit one another."""

    def faults(self) -> Iterable[str]:
        """Say each fault in one clause that names the setting."""
        ...


class ConfigFaults(StartRefused):
    """The configuration has faults; the text names all of them, a line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("the configuration has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = tuple(faults)


def read_file(path: Path | None) -> Mapped:
    """Read the YAML file of settings, one mapping of sections; an absent path is an empty file."""
    if path is None:
        return {}
    try:
        document: object = yaml.safe_load(path.read_bytes())
    except OSError as exc:
        raise StartRefused(f"cannot read the configuration file {path}: {exc.strerror}.") from exc
    except (yaml.YAMLError, ValueError) as exc:
        # PyYAML's own text quotes the line, which may hold a key; a date that is none is a ValueError.
        raise StartRefused(f"the configuration file {path} is not YAML{_place(exc)}.") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise StartRefused(f"the configuration file {path} must hold a mapping of sections.")
    return cast("dict[str, object]", document)


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"


def overlay(file: Mapped, environ: Mapping[str, str], variables: Iterable[Variable]) -> Mapped:
    """Lay the environment over the file; of two variables for one setting the first that is set wins."""
    given: dict[str, object] = {}
    for variable in variables:
        value = environ.get(variable.name, "")
        if value != "":
            given.setdefault(variable.path, value)
    return override(file, given)


def override(settings: Mapped, values: Mapping[str, object]) -> Mapped:
    """Lay values, by their dotted paths from the section's name, over settings; None leaves one as it is."""
    merged = _copied(settings)
    for path, value in values.items():
        if value is None:
            continue
        *parents, leaf = path.split(".")
        place = _mapping_at(merged, parents)
        if place is not None:
            place[leaf] = value
    return merged


def _mapping_at(settings: dict[str, object], path: Sequence[str]) -> dict[str, object] | None:
    """Find or make the mapping at a path; what else stands there is left for `decode` to find at fault."""
    place = settings
    for name in path:
        below = place.get(name)
        if below is None:
            below = place[name] = {}
        if not isinstance(below, dict):
            return None
        place = cast("dict[str, object]", below)
    return place


def leaves(settings: Mapped, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Walk the settings that are no mappings, each with its dotted path."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(cast("Mapped", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def decode(settings: Mapped, sections: Mapping[str, type[msgspec.Struct]]) -> dict[str, msgspec.Struct]:
    """Decode every section at once; ConfigFaults names each unknown key, wrong type and misfit."""
    faults = [f"{name}: unknown section" for name in settings if name not in sections]
    decoded: dict[str, msgspec.Struct] = {}
    for name, struct in sections.items():
        value = _decode_struct(struct, settings.get(name, {}), name, faults)
        if value is not msgspec.UNSET:
            decoded[name] = value
    if faults:
        raise ConfigFaults(faults)
    return decoded


def _decode_struct(
    struct: type[Section], raw: object, where: str, faults: list[str]
) -> Section | msgspec.UnsetType:
    """Decode one Struct and check it; UNSET, unchecked, where one of its settings cannot be read."""
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        faults.append(f"{where}: must be a mapping")
        return msgspec.UNSET
    given = cast("dict[str, object]", raw)
    known = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    faults.extend(f"{where}.{key}: unknown setting" for key in given if key not in known)
    values: dict[str, Any] = {}
    for key, field in known.items():
        if key in given:
            values[field.name] = _decode_value(field.type, given[key], f"{where}.{key}", faults)
        elif field.required:
            faults.append(f"{where}.{key}: is required")
            values[field.name] = msgspec.UNSET
    if msgspec.UNSET in values.values():
        return msgspec.UNSET
    decoded = struct(**values)
    if isinstance(decoded, Checked):
        faults.extend(f"{where}.{fault}" for fault in decoded.faults())
    return decoded


def _decode_value(kind: object, raw: object, where: str, faults: list[str]) -> object:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _decode_struct(kind, raw, where, faults)
    try:
        return msgspec.convert(raw, cast("type[object]", kind), strict=False)
    except msgspec.ValidationError as exc:
        faults.append(f"{where}: {str(exc).removesuffix(' - at `$`')}")
        return msgspec.UNSET


def _copied(mapped: Mapped) -> dict[str, object]:
    return {
        key: _copied(cast("Mapped", value)) if isinstance(value, dict) else value
        for key, value in mapped.items()
    }
