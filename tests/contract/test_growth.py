"""Schemas only grow: the types of today are held against a frozen list of what was published."""

import msgspec
import pytest

from tests.contract import growth
from tests.contract.golden import GOLDEN
from tests.contract.growth import FILE, Member, faults, types_of_today

FROZEN = msgspec.json.decode((GOLDEN / "fields.json").read_bytes(), type=dict[str, tuple[Member, ...]])

TEXT: dict[str, object] = {"type": "string"}
OPTIONAL: dict[str, object] = {"type": "string", "default": ""}
ID, NOTE = Member("id", TEXT), Member("note", OPTIONAL)
COLOUR = Member("colour", {"type": "string", "enum": ["blue", "red"]})
BEFORE = (ID, NOTE)


def test_no_type_that_was_published_is_gone():
    assert sorted(set(FROZEN) - set(types_of_today())) == []


@pytest.mark.parametrize("name", sorted(types_of_today()))
def test_a_published_type_only_grew(name: str):
    today = types_of_today()[name]
    assert name in FROZEN, f"freeze the new type in {FILE}: {growth.written({name: today})}"
    found = list(faults(name, FROZEN[name], today))
    assert found == [], "\n".join(found)


def test_what_is_the_same_has_no_fault():
    assert list(faults("thing.v1", BEFORE, BEFORE)) == []


@pytest.mark.parametrize(
    ("frozen", "today", "expected"),
    [
        (BEFORE, (ID,), "thing.v1: note was removed or renamed."),
        (BEFORE, (ID, Member("remark", OPTIONAL)), "thing.v1: note was removed or renamed."),
        (BEFORE, (NOTE, ID), "thing.v1: the members stand in another order than they did."),
        (BEFORE, (ID, Member("tag", OPTIONAL), NOTE), "thing.v1: the members stand in another order"),
        (BEFORE, (*BEFORE, Member("size", TEXT)), "thing.v1.size: give the new member a default."),
        (BEFORE, (*BEFORE, Member("size", OPTIONAL)), "thing.v1.size is new: freeze it as the last"),
        (BEFORE, (Member("id", {"type": "integer"}), NOTE), 'thing.v1.id: was {"type":"string"}, is'),
        (BEFORE, (ID, Member("note", TEXT)), 'thing.v1.note: left out it meant "", now nothing'),
        (
            BEFORE,
            (ID, Member("note", {**TEXT, "default": "-"})),
            'thing.v1.note: left out it meant "", now "-".',
        ),
        (
            (COLOUR,),
            (Member("colour", {"type": "string", "enum": ["blue"]}),),
            "thing.v1.colour: red can no longer be said.",
        ),
        (
            (COLOUR,),
            (Member("colour", {"type": "string", "enum": ["blue", "green", "red"]}),),
            "thing.v1.colour: green is new, and readers of an older release set such records aside.",
        ),
    ],
)
def test_what_breaks_readers_is_named_with_what_to_do(
    frozen: growth.Members, today: growth.Members, expected: str
):
    (fault,) = faults("thing.v1", frozen, today)
    assert fault.startswith(expected)
