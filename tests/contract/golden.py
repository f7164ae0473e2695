"""Finds the golden examples: events as they were written when their kind was new."""

from pathlib import Path
from typing import NamedTuple, get_args

from schemas import codec
from schemas.codec import STRUCTS, VERSIONS, Event, KindName

SCHEMAS = Path(__file__).parents[2] / "schemas"
GOLDEN = SCHEMAS / "golden"
KINDS: tuple[KindName, ...] = get_args(KindName)


class Example(NamedTuple):
    kind: KindName
    path: Path

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def event(self) -> Event:
        return codec.decode(STRUCTS[self.kind], self.content)


def examples_of(kind: KindName) -> list[Example]:
    folder = GOLDEN / f"{kind}.v{VERSIONS[kind]}"
    return [Example(kind, path) for path in sorted(folder.glob("*.json"))]


def examples() -> list[Example]:
    return [example for kind in KINDS for example in examples_of(kind)]


def name_of(value: object) -> str:
    return f"{value.path.parent.name}/{value.path.stem}" if isinstance(value, Example) else str(value)
