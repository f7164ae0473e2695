"""Reads the YAML of a price book or of overrides into rows, collecting what is wrong; decides no price."""

from collections.abc import Hashable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar, cast

import msgspec
import yaml

from services.runtime import config

Row = TypeVar("Row", bound=msgspec.Struct)


def read(path: Path, faults: list[str]) -> bytes:
    """Read a file; nothing, and a fault, where that is not possible."""
    try:
        return path.read_bytes()
    except OSError as exc:
        faults.append(f"cannot be read: {exc.strerror}")
        return b""


def document(text: bytes, faults: list[str]) -> Mapping[str, object]:
    """Read YAML whose top is a mapping; an empty one, and a fault, for anything else."""
    if faults:
        return {}
    try:
        loaded: object = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as exc:
        faults.append(f"is not YAML: {exc}")
        return {}
    if not isinstance(loaded, dict):
        faults.append("must hold a mapping")
        return {}
    return cast("Mapping[str, object]", loaded)


def mapping(raw: object) -> Mapping[str, object]:
    """Go on below a member that is none: its own fault is reported where the head is decoded."""
    return cast("Mapping[str, object]", raw) if isinstance(raw, dict) else {}


def sequence(raw: object) -> Sequence[object]:
    """Go on below a member that is none, in the same way."""
    return cast("Sequence[object]", raw) if isinstance(raw, list) else ()


def decoded(struct: type[Row], raw: object, where: str, faults: list[str]) -> Row | None:
    """Decode one row and collect what is wrong with it, unknown members included."""
    try:
        row = config.decode({where: raw}, {where: struct})[where]
    except config.ConfigFaults as exc:
        faults.extend(exc.faults)
        return None
    assert isinstance(row, struct)
    return row


def decoded_each(struct: type[Row], raw: object, where: str, faults: list[str]) -> list[Row]:
    """Decode the rows of a list, each with its place in it."""
    rows = (decoded(struct, each, f"{where}[{place}]", faults) for place, each in enumerate(sequence(raw)))
    return [row for row in rows if row is not None]


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key standing twice: the first would be lost in silence.

    And one that says where a day stands that the calendar does not have.
    """

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> date | datetime:
        """Build a day or a time."""
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError as exc:
            problem = f"{node.value} is no day: {exc}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from exc

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """Build a mapping whose keys all differ."""
        seen: set[object] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else key
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name} stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)
