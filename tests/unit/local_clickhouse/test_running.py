"""Which query ids are in use, and what a KILL QUERY makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.running import Running
from services.local.clickhouse.statements import with_literals_replaced


def test_an_id_is_used_once_at_a_time():
    running = Running()
    running.begin("a", "mark 1")
    with pytest.raises(QueryFailed) as refusal:
        running.begin("a", "mark 2")
    running.begin("b", "mark 3")
    assert refusal.value.code == ErrorCode.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
    assert running.ids_by_mark() == {"mark 1": "a", "mark 3": "b"}
    running.end("a")
    running.begin("a", "mark 4")
    assert running.ids_by_mark() == {"mark 3": "b", "mark 4": "a"}


@pytest.mark.parametrize(
    ("sql", "replaced"),
    [
        (b"KILL QUERY WHERE query_id = 'a'", b"KILL QUERY WHERE query_id = 'engine'"),
        (b"KILL QUERY WHERE query_id IN ('a','b') SYNC", b"KILL QUERY WHERE query_id IN ('engine','b') SYNC"),
        (b"KILL QUERY WHERE user = \"a\" -- 'a'", b"KILL QUERY WHERE user = \"a\" -- 'a'"),
        (b"KILL QUERY WHERE query = 'it\\'a'", b"KILL QUERY WHERE query = 'it\\'a'"),
        (b"KILL QUERY WHERE `a` = 'aa'", b"KILL QUERY WHERE `a` = 'aa'"),
    ],
)
def test_only_a_literal_that_is_a_known_id_is_replaced(sql, replaced):
    assert with_literals_replaced(sql, {"a": "engine"}) == replaced


@given(st.binary())
def test_without_a_known_id_nothing_changes(sql):
    assert with_literals_replaced(sql, {}) == sql
