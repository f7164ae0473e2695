"""What was written once can be read for ever, and is still written the same."""

import hashlib
import json
from collections.abc import Iterator

import msgspec
import pytest

from schemas import codec
from schemas.codec import STRUCTS, KindName
from schemas.json_schema import default_of, schema_of
from tests.contract import structure
from tests.contract.golden import GOLDEN, KINDS, Example, examples, examples_of, name_of

SUMS = GOLDEN / "SHA256SUMS"
EXAMPLES_MIN = 2


def test_no_golden_example_was_edited_or_removed():
    for line in SUMS.read_text().splitlines():
        digest, path = line.split("  ")
        file = GOLDEN / path
        assert file.is_file(), f"golden/{path} is gone: records like it are in the log, put it back"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, (
            f"golden/{path} was edited: restore it, and show what is new in a file of another name"
        )


def test_every_golden_example_has_its_line_in_the_list():
    listed = {line.split("  ")[1] for line in SUMS.read_text().splitlines()}
    for file in sorted(GOLDEN.glob("*/*")):
        path = file.relative_to(GOLDEN).as_posix()
        line = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {path}"
        assert path in listed, f"add this line to schemas/golden/SHA256SUMS: {line}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_golden_examples(kind: KindName):
    assert len(examples_of(kind)) >= EXAMPLES_MIN


@pytest.mark.parametrize("example", examples(), ids=name_of)
def test_a_golden_example_is_what_the_encoder_writes(example: Example):
    """A kind that gained members writes them too: what the example holds must then come first, unchanged."""
    written = codec.encode(example.event)
    if written != example.content:
        _assert_grown(json.loads(example.content), json.loads(written), "$")


@pytest.mark.parametrize("example", examples(), ids=name_of)
def test_a_golden_example_is_valid_by_the_json_schema(example: Example):
    schema = schema_of(example.kind)
    assert list(structure.faults(json.loads(example.content), schema, schema)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_examples_of_a_kind_show_every_member_at_work(kind: KindName):
    """An example in which a member has its default would not notice that the member got lost."""
    optional: set[str] = set()
    shown: set[str] = set()
    for example in examples_of(kind):
        for where, is_default in _optional_members(example.event):
            optional.add(where)
            if not is_default:
                shown.add(where)
    assert sorted(optional - shown) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_says_nothing_may_be_left_out(kind: KindName):
    for example in examples_of(kind):
        event = example.event
        members = json.loads(example.content)
        for field in msgspec.structs.fields(event):
            if not field.required and _is_default(event, field.name):
                members.pop(field.name, None)  # an example of an earlier day may not have it
        # Compact, as the verbatim usage within is compared byte by byte.
        shortened = json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
        assert codec.decode(type(event), shortened) == event


def _assert_grown(before: object, after: object, where: str) -> None:
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (each, now) in enumerate(zip(before, after, strict=True)):
            _assert_grown(each, now, f"{where}[{place}]")
        return
    if not isinstance(before, dict):
        assert after == before, f"{where} is written another way than it was"
        return
    assert isinstance(after, dict)
    assert list(after)[: len(before)] == list(before), f"members of {where} are gone or stand elsewhere"
    for name, value in before.items():
        _assert_grown(value, after[name], f"{where}.{name}")


def _optional_members(event: msgspec.Struct, where: str = "$") -> Iterator[tuple[str, bool]]:
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        inner = f"{where}.{field.name}"
        if not field.required:
            yield inner, _is_default(event, field.name)
        for each in value if isinstance(value, tuple) else (value,):
            # An event within an event has examples of its own.
            if isinstance(each, msgspec.Struct) and type(each) not in STRUCTS.values():
                yield from _optional_members(each, inner)


def _is_default(event: msgspec.Struct, name: str) -> bool:
    info = msgspec.inspect.type_info(type(event))
    assert isinstance(info, msgspec.inspect.StructType)
    field = next(field for field in info.fields if field.name == name)
    written = msgspec.json.decode(msgspec.json.encode(getattr(event, name)))
    return written == default_of(field)
