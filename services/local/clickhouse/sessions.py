"""Keeps the sessions of clients: who holds which engine handle, and until when; runs no statement."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from services.local.clickhouse.errors import ErrorCode, refused
from services.local.clickhouse.extra import Handle
from services.local.clickhouse.job import SessionWish

# A session is a handle of its own with temporary tables; more at once than this is a leak, not a laptop.
SESSIONS_MAX = 512
# As on a ClickHouse server.
SESSION_TIMEOUT_S_DEFAULT = 60.0
SESSION_TIMEOUT_S_MAX = 3600.0


@dataclass(kw_only=True, slots=True)
class Session:
    """One session: its handle, and what must be put back after a request that brought its own."""

    session_id: str
    handle: Handle
    database: str = "default"
    base_settings: dict[str, str] = field(default_factory=dict[str, str])
    is_busy: bool = True
    expires_at_s: float = 0.0


class Sessions:
    """The sessions of this process; safe to use from any thread."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def borrow(self, wish: SessionWish, open_new: Callable[[], Handle]) -> Session:
        """Take a session for one request; a second at the same time is refused, as by ClickHouse."""
        with self._lock:
            self._drop_expired()
            session = self._sessions.get(wish.session_id)
            if session is None:
                session = self._create(wish, open_new)
            elif session.is_busy:
                raise refused(
                    ErrorCode.SESSION_IS_LOCKED, f"Session {wish.session_id} is in use by another request."
                )
            session.is_busy = True
            session.expires_at_s = self._now_s() + wish.timeout_s
            return session

    def give_back(self, session: Session, timeout_s: float) -> None:
        """Free a session for its next request; its time counts from now."""
        with self._lock:
            session.is_busy = False
            session.expires_at_s = self._now_s() + timeout_s

    def close(self) -> None:
        """Close every session that is not in use."""
        with self._lock:
            for session in [session for session in self._sessions.values() if not session.is_busy]:
                self._drop(session)

    def _create(self, wish: SessionWish, open_new: Callable[[], Handle]) -> Session:
        if wish.must_exist:
            raise refused(
                ErrorCode.SESSION_NOT_FOUND, f"Session {wish.session_id} is not found or has expired."
            )
        if len(self._sessions) >= SESSIONS_MAX:
            raise refused(
                ErrorCode.TOO_MANY_SIMULTANEOUS_QUERIES,
                f"There are {SESSIONS_MAX} sessions already; close some.",
            )
        session = Session(session_id=wish.session_id, handle=open_new())
        self._sessions[wish.session_id] = session
        return session

    def _drop_expired(self) -> None:
        now_s = self._now_s()
        for session in list(self._sessions.values()):
            if not session.is_busy and session.expires_at_s <= now_s:
                self._drop(session)

    def _drop(self, session: Session) -> None:
        del self._sessions[session.session_id]
        session.handle.close()
