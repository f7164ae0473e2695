"""What a caller that may see only its own batches sees of Anthropic's list: all of its own, and no others."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.batches.listing import LIMIT_MAX, PAGES_MAX, Listing, NotAPage, TooFar, cursors_in
from services.edge.batches.owners import Span
from services.local.anthropic.paging import page_of

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def made_at(number):
    return BEGAN + timedelta(minutes=number)


def batch(number):
    return {
        "id": f"msgbatch_{number}",
        "type": "message_batch",
        "processing_status": "ended",
        "created_at": made_at(number).isoformat(),
        "expires_at": made_at(number + 1440).isoformat(),
        "a_member_of_tomorrow": {"kept": number},
    }


class Upstream:
    """Anthropic's list: `batches` of all keys, number 0 the oldest; counts what it is asked."""

    def __init__(self, batches):
        self.ids = [f"msgbatch_{number}" for number in reversed(range(batches))]
        self.asked = []

    def __call__(self, query):
        self.asked.append(query)
        ids, has_more = page_of(self.ids, parse_qs(query.decode()), "batch")
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        data = [batch(int(each.removeprefix("msgbatch_"))) for each in ids]
        return msgspec.json.encode({"data": data, "has_more": has_more, "first_id": first, "last_id": last})


def listed(upstream, own, query):
    """Answer one call of a caller with these batches, by number."""
    span = Span(made_at(min(own)), made_at(max(own))) if own else None
    listing = Listing(query, {f"msgbatch_{number}" for number in own}.__contains__, span)
    following = listing.take(upstream(query))
    while following is not None:
        following = listing.take(upstream(following))
    return msgspec.json.decode(listing.answer())


def numbers(page):
    return [each["a_member_of_tomorrow"]["kept"] for each in page["data"]]


def test_a_page_that_is_all_the_callers_passes_as_it_came():
    came = b'{ "data": [%s],\n "first_id": "msgbatch_1", "has_more": false, "last_id": "msgbatch_1" }'
    came %= msgspec.json.encode(batch(1))
    listing = Listing(b"", lambda _: True, Span(made_at(1), made_at(1)))
    assert listing.take(came) is None
    assert listing.answer() == came


def test_of_a_page_with_others_the_callers_stay_with_the_bytes_of_each():
    page = listed(Upstream(3), {0, 2}, b"limit=20&beta=true")
    assert page == {
        "data": [batch(2), batch(0)],
        "has_more": False,
        "first_id": "msgbatch_2",
        "last_id": "msgbatch_0",
    }


def test_who_made_no_batch_sees_an_empty_list_and_costs_one_call():
    upstream = Upstream(5_000)
    page = listed(upstream, set(), b"")
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert upstream.asked == [b""]


def test_more_pages_are_asked_for_until_there_are_as_many_as_were_asked_for():
    upstream = Upstream(3_000)
    page = listed(upstream, {2_999, 1_500, 10}, b"limit=2&beta=true")
    assert (numbers(page), page["has_more"]) == ([2_999, 1_500], True)
    assert upstream.asked == [
        b"limit=2&beta=true",
        b"beta=true&limit=1000&after_id=msgbatch_2998",
        b"beta=true&limit=1000&after_id=msgbatch_1998",
    ]


def test_beyond_the_callers_oldest_batch_nothing_is_looked_for():
    upstream = Upstream(9_000)
    page = listed(upstream, {8_999, 8_500}, b"")
    assert (numbers(page), page["has_more"]) == ([8_999, 8_500], False)
    assert len(upstream.asked) == 2


def test_backwards_beyond_the_newest_neither():
    upstream = Upstream(9_000)
    page = listed(upstream, {10, 20, 7_000}, b"before_id=msgbatch_5&limit=2")
    assert (numbers(page), page["has_more"]) == ([20, 10], True)
    page = listed(upstream, {10, 20}, b"before_id=msgbatch_10&limit=2")
    assert (numbers(page), page["has_more"]) == ([20], False)


@pytest.mark.parametrize("query", [b"limit=2", b"limit=2&before_id=msgbatch_0"])
def test_after_so_many_pages_the_caller_goes_on_behind_the_last_of_its_own(query):
    upstream = Upstream(PAGES_MAX * LIMIT_MAX + 10)
    own = {PAGES_MAX * LIMIT_MAX + 9, PAGES_MAX * LIMIT_MAX + 8, 1}
    nearest, farthest = (1, 1) if b"before" in query else (max(own), max(own) - 1)
    page = listed(upstream, own, query)
    assert (page["has_more"], page["first_id"], page["last_id"]) == (
        True,
        f"msgbatch_{nearest}",
        f"msgbatch_{farthest}",
    )


def test_so_many_pages_without_any_of_the_callers_are_no_empty_list():
    upstream = Upstream((PAGES_MAX + 2) * LIMIT_MAX)
    with pytest.raises(TooFar):
        listed(upstream, {1}, b"limit=2")
    assert len(upstream.asked) == PAGES_MAX + 1


@pytest.mark.parametrize(
    ("query", "cursors"),
    [
        (b"", []),
        (b"limit=5&after_id=", []),
        (b"after_id=a&before_id=b&after_id=c&limit=1", ["a", "b", "c"]),
        (b"after%5Fid=%61", ["a"]),
        (b"id=a&afterid=b", []),
    ],
)
def test_a_list_may_begin_at_a_batch_that_must_be_the_callers_too(query, cursors):
    assert cursors_in(query) == cursors


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 1}', b'{"data": [{"id": 1}]}', b"\xff"])
def test_what_is_no_page_of_batches_is_none(body):
    with pytest.raises(NotAPage):
        Listing(b"", lambda _: True, None).take(body)


@pytest.mark.parametrize("query", [b"limit=0", b"limit=-1", b"limit=x", b"limit=99999", b"limit=%F0"])
def test_a_limit_that_anthropic_would_refuse_is_none_here(query):
    listing = Listing(query, lambda _: True, Span(made_at(0), made_at(LIMIT_MAX)))
    page = Upstream(LIMIT_MAX)(b"limit=30")
    listing.take(page)
    assert 1 <= len(msgspec.json.decode(listing.answer())["data"]) <= 30


@given(
    batches=st.integers(0, 60),
    own=st.sets(st.integers(0, 59), max_size=30),
    limit=st.integers(1, 12),
    cursor=st.sampled_from(["after_id", "before_id"]),
)
def test_page_by_page_a_caller_sees_all_of_its_own_in_order_and_no_others(batches, own, limit, cursor):
    own = {number for number in own if number < batches}
    upstream = Upstream(batches)
    is_backward = cursor == "before_id"
    if is_backward and not batches:
        return
    query = f"limit={limit}" + ("&before_id=msgbatch_0" if is_backward else "")
    seen, has_more = [], True
    while has_more:
        page = listed(upstream, own, query.encode())
        found = numbers(page)
        assert len(found) <= limit
        assert found == sorted(found, reverse=True)
        seen = found + seen if is_backward else seen + found
        has_more = page["has_more"] and bool(found)
        if has_more:
            end = page["first_id"] if is_backward else page["last_id"]
            query = f"limit={limit}&{cursor}={end}"
    assert seen == sorted(own - {0} if is_backward else own, reverse=True)
