"""Makes an engine handle ready for one job (database, settings, tables) and leaves it as it was found."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO

import structlog

from services.local.clickhouse.errors import ErrorCode, engine_failure, refused
from services.local.clickhouse.extra import Handle, Result
from services.local.clickhouse.job import HELD_RESULT_BYTES_MAX, ExternalTable, Job
from services.local.clickhouse.sessions import Session
from services.local.clickhouse.statements import Insert, Query

log = structlog.get_logger()

# For whoever looks at what a process holds open; it is no name in a file system.
_FILE_NAME = "tollhouse-insert"


class Lease:
    """A handle for the time of one job, of its own or of a session."""

    def __init__(self, handle: Handle, session: Session | None, give_back: Callable[[], None]) -> None:
        self.handle = handle
        self._session = session
        self._give_back = give_back
        self._undo: list[str] = []

    def prepare(self, job: Job) -> None:
        """Apply what the job brings."""
        if job.database:
            self._run(f"USE {identifier(job.database)}")
            if self._session is not None:
                self._undo.append(f"USE {identifier(self._session.database)}")
        settings = _job_settings(job)
        if self._session is not None:
            if settings:
                self._undo.append(_set_statement(self._base_settings(self._session, settings)))
            settings |= own_settings(job.mark)
        settings |= _insert_parameters(job)
        if settings:
            self._run(_set_statement(settings))
        for table in job.external:
            self._create(table)

    def settle(self, statement: Insert | Query) -> None:
        """Follow what a finished statement changed in its session."""
        if self._session is None or isinstance(statement, Insert):
            return
        if statement.keyword == "USE":
            self._session.database = self._row("SELECT currentDatabase()")[0]
            self._undo = [undo for undo in self._undo if not undo.startswith("USE ")]
        elif statement.keyword == "SET":
            self._session.base_settings.clear()

    def release(self) -> None:
        """Undo what the job brought and give the handle back; to be called once."""
        try:
            for statement in reversed(self._undo):
                self._run(statement)
        except RuntimeError as exc:
            # A session that was made read-only by its client keeps the settings of its last request.
            log.warning("local_clickhouse.session_not_restored", code=engine_failure(str(exc)).code)
        finally:
            self._give_back()

    def _create(self, table: ExternalTable) -> None:
        name = identifier(table.name)
        self._run(f"CREATE TEMPORARY TABLE {name} ({table.structure})")
        if self._session is not None:
            self._undo.append(f"DROP TEMPORARY TABLE IF EXISTS {name}")
        insert(
            self.handle,
            Insert(head=f"INSERT INTO {name}", format=table.format, data=table.data),
        )

    def _base_settings(self, session: Session, wanted: dict[str, str]) -> dict[str, str]:
        """Know a session's settings without the job's; asked once each, for it takes a millisecond."""
        unknown = [name for name in wanted if name not in session.base_settings]
        if unknown:
            values = self._row(
                "SELECT " + ", ".join(f"toString(getSetting({quoted(name)}))" for name in unknown)
            )
            session.base_settings.update(zip(unknown, values, strict=True))
        return {name: session.base_settings[name] for name in wanted}

    def _row(self, sql: str) -> list[str]:
        return json.loads(self.handle.query(sql, "JSONCompactEachRow").bytes() or b"[]")

    def _run(self, sql: str) -> None:
        self.handle.query(sql, "Null")


def own_settings(mark: str) -> dict[str, str]:
    """Tell the settings that every job brings anew, so that nothing has to be undone."""
    # The embedded engine reads a bare expression as a SELECT, which a server calls a syntax error.
    # The comment is how a running statement is found when it is to be killed: its query id cannot be chosen.
    return {"implicit_select": "0", "log_comment": mark}


def insert(handle: Handle, statement: Insert) -> Result:
    """Write data in an input format; returns when it is written, raises where any of it could not be.

    It goes through a file: the engine's way of taking data in pieces tells of bytes that it cannot read,
    but not of blocks that it cannot write.
    """
    with _as_file(statement.data) as path:
        source = f"FROM INFILE {quoted(path)} {statement.settings}"
        return handle.query(f"{statement.head} {source} FORMAT {statement.format}", "Null")


@contextmanager
def _as_file(data: bytes) -> Generator[str]:
    """Give a path to data that the engine can open and that is gone after a kill as well."""
    try:
        with _unnamed_file() as file:
            file.write(data)
            file.flush()
            yield f"/dev/fd/{file.fileno()}"
    except OSError as exc:
        raise refused(ErrorCode.NOT_ENOUGH_SPACE, f"The data cannot be held: {exc.strerror}.") from exc


def _unnamed_file() -> IO[bytes]:
    # In memory where the system can, so that a block is not written to disk twice.
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create(_FILE_NAME), "wb")
    return tempfile.TemporaryFile()


def quoted(text: str) -> str:
    """Write a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """Write a quoted name."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _job_settings(job: Job) -> dict[str, str]:
    """Tell the settings that last as long as the job: the client's, and a bound on what is held whole."""
    if isinstance(job.statement, Insert):
        return dict(job.settings)
    asked = job.settings.get("max_result_bytes", "0")
    if job.joining is not None or (asked.isdecimal() and 0 < int(asked) < HELD_RESULT_BYTES_MAX):
        return dict(job.settings)
    return {**job.settings, "max_result_bytes": str(HELD_RESULT_BYTES_MAX)}


def _insert_parameters(job: Job) -> dict[str, str]:
    """Tell the query parameters of an insert, which the engine takes as settings only."""
    if not isinstance(job.statement, Insert):
        return {}
    return {f"param_{name}": value for name, value in job.parameters.items()}


def _set_statement(settings: dict[str, str]) -> str:
    return "SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
