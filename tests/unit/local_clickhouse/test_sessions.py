"""Sessions are lent to one request at a time, end by themselves, and are bounded in number."""

import pytest

from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.job import SessionWish
from services.local.clickhouse.sessions import SESSIONS_MAX, Sessions


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class FakeHandle:
    is_open = True

    def close(self):
        self.is_open = False


def wish(session_id="s", timeout_s=60.0, must_exist=False):
    return SessionWish(session_id=session_id, timeout_s=timeout_s, must_exist=must_exist)


def code_of(call, *arguments):
    with pytest.raises(QueryFailed) as refusal:
        call(*arguments)
    return refusal.value.code


def test_a_session_keeps_its_handle_between_requests():
    sessions = Sessions(Clock())
    first = sessions.borrow(wish(), FakeHandle)
    sessions.give_back(first, 60.0)
    assert sessions.borrow(wish(must_exist=True), FakeHandle).handle is first.handle


def test_a_second_request_at_the_same_time_is_refused():
    sessions = Sessions(Clock())
    sessions.borrow(wish(), FakeHandle)
    assert code_of(sessions.borrow, wish(), FakeHandle) == ErrorCode.SESSION_IS_LOCKED
    assert sessions.borrow(wish("other"), FakeHandle).session_id == "other"


def test_an_idle_session_ends_with_its_time_and_a_busy_one_does_not():
    clock = Clock()
    sessions = Sessions(clock)
    idle, busy = sessions.borrow(wish("idle"), FakeHandle), sessions.borrow(wish("busy"), FakeHandle)
    sessions.give_back(idle, 60.0)
    clock.now_s = 60.0
    assert code_of(sessions.borrow, wish("idle", must_exist=True), FakeHandle) == ErrorCode.SESSION_NOT_FOUND
    assert (idle.handle.is_open, busy.handle.is_open) == (False, True)


def test_there_is_a_limit_on_sessions_and_expired_ones_make_room():
    clock = Clock()
    sessions = Sessions(clock)
    for number in range(SESSIONS_MAX):
        sessions.give_back(sessions.borrow(wish(f"s{number}"), FakeHandle), 60.0)
    assert code_of(sessions.borrow, wish("more"), FakeHandle) == ErrorCode.TOO_MANY_SIMULTANEOUS_QUERIES
    clock.now_s = 61.0
    assert sessions.borrow(wish("more"), FakeHandle).session_id == "more"


def test_closing_ends_what_is_not_in_use():
    sessions = Sessions(Clock())
    idle, busy = sessions.borrow(wish("idle"), FakeHandle), sessions.borrow(wish("busy"), FakeHandle)
    sessions.give_back(idle, 60.0)
    sessions.close()
    assert (idle.handle.is_open, busy.handle.is_open) == (False, True)
