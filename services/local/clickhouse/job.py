"""Carries one request from the HTTP side to the engine and its answer back; decides nothing."""

from dataclasses import dataclass
from typing import Protocol

from services.local.clickhouse.joining import Joining, joining_of
from services.local.clickhouse.statements import Insert, Query

# What a SELECT without FORMAT answers in.
PLAIN_FORMAT = "TabSeparated"
# What is held of a result before any of it is sent: with that its length is told, and an error has a status.
HEAD_BYTES_MAX = 4 * 1024**2
# What is held of one that cannot stream, or whose client waits for its end. Its text can be five times this,
# and is there twice.
HELD_RESULT_BYTES_MAX = 64 * 1024**2


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionWish:
    """The session that a request wants to run in."""

    session_id: str
    timeout_s: float
    must_exist: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalTable:
    """A table that comes with the request and lives as long as it."""

    name: str
    structure: str
    format: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One statement with everything it is to be run with, and a mark to find it by while it runs."""

    mark: str
    query_id: str
    statement: Insert | Query
    database: str
    settings: dict[str, str]
    parameters: dict[str, str]
    external: tuple[ExternalTable, ...]
    default_format: str | None
    read_only: bool
    waits_for_end: bool
    session: SessionWish | None

    @property
    def result_format(self) -> str | None:
        """Tell the format that the statement or else the request asks for."""
        return self.statement.format if self.statement.format is not None else self.default_format

    @property
    def joining(self) -> Joining | None:
        """Tell how the result can be sent while it is computed, if it can."""
        if isinstance(self.statement, Insert) or not self.statement.is_select:
            return None
        return joining_of(self.result_format or PLAIN_FORMAT, self.statement.sql, self.settings)

    @property
    def head_bytes_max(self) -> int:
        """Tell how much of a streamed result is held before any of it is sent."""
        return HELD_RESULT_BYTES_MAX if self.waits_for_end else HEAD_BYTES_MAX


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a statement read and wrote."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0


class Rest(Protocol):
    """The part of a result that has not been computed yet; both calls block."""

    def fetch(self) -> bytes | None:
        """Compute more; nothing at the end."""
        ...

    def close(self) -> None:
        """Give the engine back what the result held, wherever it stands."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A result: its format if it has one, its beginning, and its rest if that was not all."""

    format: str | None
    head: bytes
    rest: Rest | None
    summary: Summary
