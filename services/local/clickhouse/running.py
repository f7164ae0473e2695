"""Knows which statements run, by the query ids that clients gave them; starts and ends none."""

import threading

from services.local.clickhouse.errors import ErrorCode, refused


class Running:
    """Query ids of clients and the marks under which the engine knows them; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks: dict[str, str] = {}

    def begin(self, query_id: str, mark: str) -> None:
        """Take a query id; one that is in use is refused, as by ClickHouse."""
        with self._lock:
            if query_id in self._marks:
                raise refused(
                    ErrorCode.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                    f"Query with id = {query_id} is already running.",
                )
            self._marks[query_id] = mark

    def end(self, query_id: str) -> None:
        """Free a query id for whoever wants to use it next."""
        with self._lock:
            del self._marks[query_id]

    def ids_by_mark(self) -> dict[str, str]:
        """Give the query ids that are in use, by their marks."""
        with self._lock:
            return {mark: query_id for query_id, mark in self._marks.items()}
