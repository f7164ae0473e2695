"""Whatever an event holds: it is read back the same, and written again as the same bytes."""

import contextlib
import functools
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from schemas import codec, ids
from schemas.codec import STRUCTS, KindName
from schemas.rated import RatedUsage
from tests.contract import structure
from tests.contract.growth import KINDS, schema_of

EXAMPLES_MAX = 60
COUNT_MAX = 2**64 - 1
YEAR_2242_MS = 2**33 * 1000

TEXTS = st.text(max_size=20)
VERBATIM = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SCALARS = {
    inspect.StrType: TEXTS,
    inspect.IntType: st.integers(min_value=-(2**63), max_value=COUNT_MAX),
    inspect.BoolType: st.booleans(),
    inspect.NoneType: st.none(),
    inspect.BytesType: st.binary(max_size=20),
    inspect.DecimalType: st.decimals(allow_nan=False, allow_infinity=False),
    inspect.DateTimeType: st.datetimes(timezones=st.just(UTC)),
    inspect.RawType: VERBATIM.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
}


@functools.cache
def events(struct: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return st.builds(struct, **{field.name: values(field.type) for field in info.fields})


def values(info: inspect.Type) -> st.SearchStrategy:
    match info:
        case inspect.StructType():
            return events(info.cls)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.UnionType():
            return st.one_of([values(each) for each in info.types])
        case inspect.VarTupleType():
            return st.lists(values(info.item_type), max_size=3).map(tuple)
        case inspect.TupleType():
            return st.tuples(*(values(each) for each in info.item_types))
        case inspect.DictType():
            return st.dictionaries(values(info.key_type), values(info.value_type), max_size=3)
        case _:
            return SCALARS[type(info)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(data=st.data())
def test_an_event_is_read_back_the_same_and_fits_its_schema(kind: KindName, data: st.DataObject):
    event = data.draw(events(STRUCTS[kind]))
    written = codec.encode(event)
    again = codec.decode(STRUCTS[kind], written)
    assert again == event
    assert codec.encode(again) == written
    schema = schema_of(kind)
    assert list(structure.faults(json.loads(written), schema, schema)) == []
    assert all(isinstance(value, bytes) for _, value in codec.headers(again, "2026-11-22T00:00:00Z"))


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=60) | VERBATIM.map(msgspec.json.encode))
def test_no_bytes_raise_anything_but_undecodable(value: bytes):
    with pytest.raises(codec.Undecodable):
        codec.decode(RatedUsage, value)


@settings(max_examples=200, deadline=None)
@given(
    place=st.integers(min_value=0),
    value=st.integers(min_value=0, max_value=255),
    data=st.data(),
)
def test_a_flipped_byte_raises_nothing_but_undecodable(place: int, value: int, data: st.DataObject):
    event = data.draw(events(RatedUsage))
    written = bytearray(codec.encode(event))
    written[place % len(written)] = value
    with contextlib.suppress(codec.Undecodable):
        codec.decode(RatedUsage, bytes(written))


@settings(max_examples=300, deadline=None)
@given(unix_ms=st.integers(min_value=0, max_value=YEAR_2242_MS))
def test_the_time_of_a_request_id_comes_back(unix_ms: int):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert ids.time_of(ids.new_request_id(unix_ms)) == epoch + timedelta(milliseconds=unix_ms)


@settings(max_examples=200, deadline=None)
@given(earlier=st.integers(0, 2**48 - 2), step=st.integers(1, 10_000))
def test_request_ids_sort_by_the_time_they_carry(earlier: int, step: int):
    later = min(earlier + step, 2**48 - 1)
    assert ids.new_request_id(earlier) < ids.new_request_id(later)


@settings(max_examples=200, deadline=None)
@given(unix_ms=st.integers(min_value=0, max_value=2**48 - 1))
def test_a_request_id_is_a_uuid7_whatever_the_time(unix_ms: int):
    minted = ids.new_request_id(unix_ms)
    assert int(minted.replace("-", "")[:12], 16) == unix_ms
    assert minted[14] == "7" and minted[19] in "89ab"
