"""Decides whether the types of today still fit what was published: they may only grow."""

from collections.abc import Iterator, Mapping
from typing import get_args

import msgspec

from schemas.codec import STRUCTS, VERSIONS, KindName
from schemas.json_schema import schema_of

KINDS: tuple[KindName, ...] = get_args(KindName)
FILE = "schemas/golden/fields.json"


class Member(msgspec.Struct, frozen=True):
    """One member as its JSON Schema has it; without a `default` it is required."""

    name: str
    schema: dict[str, object]

    @property
    def default(self) -> str:
        return written(self.schema["default"]) if "default" in self.schema else "nothing, as it was required"

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.schema.get("enum", ()))

    @property
    def type(self) -> str:
        return written({key: value for key, value in self.schema.items() if key not in ("default", "enum")})


Members = tuple[Member, ...]


def types_of_today() -> dict[str, Members]:
    """Give the members of every kind, and of every type within one, in their order."""
    types: dict[str, Members] = {}
    events = {struct.__name__ for struct in STRUCTS.values()}
    for kind in KINDS:
        schema = schema_of(kind)
        types[f"{kind}.v{VERSIONS[kind]}"] = _members(schema)
        within = schema.get("$defs", {})
        types |= {name: _members(within[name]) for name in within if name not in events}
    return types


def faults(where: str, frozen: Members, today: Members) -> Iterator[str]:
    """Say what broke, each with what to do about it."""
    names = [member.name for member in today]
    current = {member.name: member for member in today}
    gone = [member.name for member in frozen if member.name not in current]
    if gone:
        yield (
            f"{where}: {', '.join(gone)} was removed or renamed. Records in the log hold it and subscribers "
            "read it: put it back. A rename is a new kind, or a new member beside the old one."
        )
        return
    if names[: len(frozen)] != [member.name for member in frozen]:
        yield f"{where}: the members stand in another order than they did. Put them back; new ones go last."
        return
    for member in frozen:
        yield from _changes(f"{where}.{member.name}", member, current[member.name])
    for member in today[len(frozen) :]:
        yield _newcomer(where, member)


def written(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _newcomer(where: str, member: Member) -> str:
    if "default" not in member.schema:
        return f"{where}.{member.name}: give the new member a default. Records without it are in the log."
    return f"{where}.{member.name} is new: freeze it as the last of its list in {FILE}: {written(member)}"


def _changes(where: str, before: Member, after: Member) -> Iterator[str]:
    lost = [word for word in before.words if word not in after.words]
    added = [word for word in after.words if word not in before.words]
    if before.type != after.type:
        yield f"{where}: was {before.type}, is {after.type}. Put it back; another type is a new member."
    if before.default != after.default:
        yield (
            f"{where}: left out it meant {before.default}, now {after.default}. Put it back: what is in the "
            "log must keep its meaning."
        )
    if lost:
        yield f"{where}: {', '.join(lost)} can no longer be said. Put it back: records in the log say it."
    if added:
        yield (
            f"{where}: {', '.join(added)} is new, and readers of an older release set such records aside. "
            f"Release the readers first, then freeze it in {FILE}: {written(after)}"
        )


def _members(schema: Mapping) -> Members:
    return tuple(Member(name, _shallow(member)) for name, member in schema["properties"].items())


def _shallow(member: Mapping) -> dict[str, object]:
    """Leave what a type within has for defaults to that type's own list."""
    return {**member, "default": {}} if "$ref" in member and "default" in member else dict(member)
