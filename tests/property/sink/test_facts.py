"""Events become rows and rows become events: what rating prices anew is what the edge once saw."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from schemas.ids import rated_id
from schemas.rated import CostLine, RatedUsage
from services.sink.facts import USAGE_COLUMNS, Unreadable, rated_of
from services.sink.rows import COUNT_MAX, STATUS_MAX, usage_row
from services.sink.tables import USAGE
from tests.unit.sink import events

EXAMPLES_MAX = 200
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VERBATIM = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2106, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - a bound
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
MONEY = st.decimals(0, 999_999, places=12)
LINES = st.builds(
    CostLine,
    model=TEXTS,
    dimension=st.sampled_from(["input", "output", "cache_read"]),
    units=st.integers(0, COUNT_MAX),
    unit_price_usd=MONEY,
    multiplier=st.sampled_from([Decimal("0.5"), Decimal("1.1"), Decimal("1E-7")]),
    amount_usd=st.decimals(0, 1000, places=12),
)
NAMED = {
    "request_id": st.uuids().map(str),
    "http_status": st.integers(0, STATUS_MAX),
    "cost_usd": MONEY,
    "cost_lines": st.lists(LINES, max_size=4).map(tuple),
    "booked_at": st.none(),
}
SCALARS = {
    inspect.StrType: TEXTS,
    inspect.IntType: st.integers(0, COUNT_MAX),
    inspect.BoolType: st.booleans(),
    inspect.DateTimeType: TIMES,
    inspect.RawType: VERBATIM.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
}


def of(struct: type[msgspec.Struct]) -> st.SearchStrategy:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return st.builds(
        struct,
        **{
            field.name: NAMED[field.name] if field.name in NAMED else values(field.type)
            for field in info.fields
        },
    )


def values(info: inspect.Type) -> st.SearchStrategy:
    match info:
        case inspect.StructType():
            return of(info.cls)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.VarTupleType():
            return st.lists(values(info.item_type), max_size=3).map(tuple)
        case inspect.DictType():
            return st.dictionaries(values(info.key_type), values(info.value_type), max_size=3)
        case _:
            return SCALARS[type(info)]


def as_read(row: tuple[object, ...]) -> list[object]:
    """Give a row as ClickHouse gives it back: ids and JSON as text, sequences as lists."""
    read: list[object] = []
    for (_, kind), value in zip(USAGE.columns, row, strict=True):
        if kind == "UUID":
            read.append(str(uuid.UUID(int=value)))
        elif isinstance(value, bytes):
            read.append(value.decode())
        else:
            read.append(list(value) if isinstance(value, tuple) else value)
    return read


@settings(max_examples=EXAMPLES_MAX, deadline=None)
@given(of(RatedUsage))
def test_a_rated_usage_comes_back_from_its_row(event: RatedUsage):
    expected = msgspec.structs.replace(event, rated_id=rated_id(event.usage.request_id, event.book_seq))
    assert rated_of(as_read(usage_row(expected))) == expected


def test_what_is_finer_than_a_row_is_cut():
    moment = datetime(2026, 11, 22, 10, 30, 0, 123_999, UTC)
    fact = events.usage_recorded(started_at=moment, finished_at=moment)
    again = rated_of(as_read(usage_row(events.rated_usage(fact)))).usage
    assert again == msgspec.structs.replace(fact, started_at=events.STARTED_AT, finished_at=events.STARTED_AT)


def test_what_no_release_of_today_wrote_is_unreadable_and_not_quoted():
    values = as_read(usage_row(events.rated_usage()))
    for column, value in (
        ("outcome", "sk-secret"),
        ("cost_lines_json", "{sk-secret"),
        ("http_status", "sk-secret"),
    ):
        spoilt = list(values)
        spoilt[USAGE.names.index(column)] = value
        with pytest.raises(Unreadable, match=r"^a row of tollhouse_raw\.usage cannot be read: ") as caught:
            rated_of(spoilt)
        assert "secret" not in str(caught.value)


def test_times_and_ids_are_asked_for_in_a_form_that_no_client_can_bend():
    assert USAGE_COLUMNS.startswith("toString(request_id), toUnixTimestamp64Milli(started_at), row_version, ")
