"""Runs jobs on chDB, each on a handle of its own, within a bound on memory; never speaks HTTP."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from services.local.clickhouse.errors import ErrorCode, engine_failure, refused
from services.local.clickhouse.extra import Handle, Result, Stream, open_handle, statement_kind
from services.local.clickhouse.job import PLAIN_FORMAT, Answer, Job, Summary
from services.local.clickhouse.joining import Joining
from services.local.clickhouse.lease import Lease, insert, own_settings, quoted
from services.local.clickhouse.running import Running
from services.local.clickhouse.sessions import Session, Sessions
from services.local.clickhouse.statements import Insert, Query, with_literals_replaced

# Merges on a laptop need no more, and each thread costs memory.
BACKGROUND_THREADS = 2

# Its first line is there only if the statement has a result at all.
PROBE_FORMAT = "TabSeparatedWithNames"


class Engine:
    """The engine on one directory; its methods may be called from any thread."""

    def __init__(self, data_dir: Path, memory_bytes_max: int) -> None:
        self._target = str(data_dir)
        options = {
            "max_server_memory_usage": memory_bytes_max,
            "background_pool_size": BACKGROUND_THREADS,
            "timezone": "UTC",
        }
        # The first handle carries the options and keeps the engine alive between requests.
        self._root = open_handle(f"{self._target}?{urlencode(options)}")
        self._root_lock = threading.Lock()
        self._sessions = Sessions(time.monotonic)
        self._running = Running()
        self.timezone = self._ask("SELECT timezone()")
        self.version = self._ask("SELECT version()")

    def execute(self, job: Job) -> Answer:
        """Run a job to its end, or to the point from which its result streams."""
        self._check_allowed(job)
        with _engine_errors():
            lease = self._lease(job)
            try:
                lease.prepare(job)
                answer = _run(self._with_own_ids(job), lease)
                lease.settle(job.statement)
            except BaseException:
                lease.release()
                raise
            if answer.rest is None:
                lease.release()
            return answer

    def kill(self, mark: str) -> None:
        """End a job that runs in another thread; one that does not run is nothing to end."""
        with _engine_errors():
            self._ask(f"KILL QUERY WHERE Settings['log_comment'] = {quoted(mark)} ASYNC")

    def kill_all(self) -> None:
        """End every job that runs."""
        with _engine_errors():
            self._ask("KILL QUERY WHERE Settings['log_comment'] != '' ASYNC")

    def close(self) -> None:
        """Close idle sessions and let go of the directory."""
        self._sessions.close()
        self._root.close()

    def _ask(self, sql: str) -> str:
        with self._root_lock:
            return (self._root.query(sql, "TabSeparatedRaw").bytes() or b"").decode().strip()

    def _check_allowed(self, job: Job) -> None:
        kind, statement_count = self._kind(job.statement)
        if kind == "UNKNOWN" and isinstance(job.statement, Query) and not job.statement.begins:
            # The embedded engine takes it for nothing and is content.
            raise refused(ErrorCode.SYNTAX_ERROR, "The query is empty, or begins with what is no SQL.")
        if statement_count > 1:
            raise refused(ErrorCode.SYNTAX_ERROR, "Several statements in one request are not allowed.")
        if job.read_only and kind not in ("READ_ONLY", "UNKNOWN"):
            raise refused(ErrorCode.READONLY, "GET only reads: send this statement with POST.")

    def _kind(self, statement: Insert | Query) -> tuple[str, int]:
        if isinstance(statement, Insert) or statement.keyword == "INSERT":
            return "MUTATING", 1
        with self._root_lock:
            return statement_kind(self._root, statement.sql.decode("utf-8", "replace"))

    def _with_own_ids(self, job: Job) -> Job:
        """Let KILL QUERY find statements by their clients' ids, for the engine has ids of its own."""
        if isinstance(job.statement, Insert) or job.statement.keyword != "KILL":
            return job
        ids_by_mark = self._running.ids_by_mark()
        marks = ", ".join(map(quoted, ids_by_mark))
        rows = self._ask(
            f"SELECT Settings['log_comment'] AS mark, query_id FROM system.processes WHERE mark IN ({marks})"
        )
        engine_ids = dict(row.split("\t") for row in rows.splitlines())
        replacements = {
            query_id: engine_ids[mark] for mark, query_id in ids_by_mark.items() if mark in engine_ids
        }
        sql = with_literals_replaced(job.statement.sql, replacements)
        return replace(job, statement=replace(job.statement, sql=sql))

    def _lease(self, job: Job) -> Lease:
        """Take a query id and a handle, both to be given back together."""
        self._running.begin(job.query_id, job.mark)
        try:
            handle, session, give_back = self._handle(job)
        except BaseException:
            self._running.end(job.query_id)
            raise

        def give_back_all() -> None:
            self._running.end(job.query_id)
            give_back()

        return Lease(handle, session, give_back_all)

    def _handle(self, job: Job) -> tuple[Handle, Session | None, Callable[[], None]]:
        wish = job.session
        if wish is None:
            handle = open_handle(f"{self._target}?{urlencode(own_settings(job.mark))}")
            return handle, None, handle.close
        session = self._sessions.borrow(wish, lambda: open_handle(self._target))
        return session.handle, session, lambda: self._sessions.give_back(session, wish.timeout_s)


def _run(job: Job, lease: Lease) -> Answer:
    started_ns = time.monotonic_ns()
    if isinstance(job.statement, Insert):
        written = insert(lease.handle, job.statement)
        summary = Summary(
            written_rows=written.rows_written(),
            written_bytes=written.bytes_written(),
            elapsed_ns=time.monotonic_ns() - started_ns,
        )
        return Answer(format=None, head=b"", rest=None, summary=summary)
    joining = job.joining
    if joining is not None:
        answer = _run_streamed(job, job.statement, lease, joining)
        if answer.head or not joining.has_frame:
            return answer
    return _run_whole(job, job.statement, lease, started_ns)


def _run_whole(job: Job, statement: Query, lease: Lease, started_ns: int) -> Answer:
    result_format = job.result_format
    implied = PLAIN_FORMAT if statement.is_select else PROBE_FORMAT
    result = lease.handle.query(statement.sql, result_format or implied, params=job.parameters)
    body = result.bytes() or b""
    if result_format is None and implied == PROBE_FORMAT and body:
        body = body.partition(b"\n")[2]
        result_format = PLAIN_FORMAT
    elif result_format is None and implied == PLAIN_FORMAT:
        result_format = PLAIN_FORMAT
    summary = Summary(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        result_bytes=len(body),
        elapsed_ns=time.monotonic_ns() - started_ns,
    )
    return Answer(format=result_format, head=body, rest=None, summary=summary)


def _run_streamed(job: Job, statement: Query, lease: Lease, joining: Joining) -> Answer:
    started_ns = time.monotonic_ns()
    result_format = job.result_format or PLAIN_FORMAT
    stream = lease.handle.send_query(statement.sql, result_format, params=job.parameters)
    pieces: list[bytes] = []
    counted = Summary()
    result = stream.fetch()
    while result is not None:
        piece = result.bytes() or b""
        pieces.append(joining.next(piece) if pieces else joining.first(piece))
        counted = _counted(counted, result, len(piece), time.monotonic_ns() - started_ns)
        if counted.result_bytes >= job.head_bytes_max:
            break
        result = stream.fetch()
    rest = None if result is None else _Rest(stream, lease, joining)
    if rest is None and pieces:
        pieces.append(joining.end)
    return Answer(format=result_format, head=b"".join(pieces), rest=rest, summary=counted)


def _counted(before: Summary, result: Result, piece_bytes: int, elapsed_ns: int) -> Summary:
    return Summary(
        read_rows=before.read_rows + result.storage_rows_read(),
        read_bytes=before.read_bytes + result.storage_bytes_read(),
        result_rows=before.result_rows + result.rows_read(),
        result_bytes=before.result_bytes + piece_bytes,
        elapsed_ns=elapsed_ns,
    )


class _Rest:
    """What is left of a streamed result, with the lease that it holds until its end."""

    def __init__(self, stream: Stream, lease: Lease, joining: Joining) -> None:
        self._stream = stream
        self._joining = joining
        self._lease = lease
        # `close` may come while another thread still computes; a handle takes one call at a time.
        self._lock = threading.Lock()
        self._is_open = True

    def fetch(self) -> bytes | None:
        """Compute the next block; the lease is free before the caller can see the end."""
        with self._lock, _engine_errors():
            if not self._is_open:
                return None
            result = self._stream.fetch()
            if result is None:
                self._end()
                return self._joining.end
            return self._joining.next(result.bytes() or b"")

    def close(self) -> None:
        """Stop computing and free the lease."""
        with self._lock, _engine_errors():
            self._end()

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self._stream.cancel()
            finally:
                self._lease.release()


@contextmanager
def _engine_errors() -> Generator[None]:
    """Turn what chDB raises into the error that the client is to see."""
    try:
        yield
    except RuntimeError as exc:
        raise engine_failure(str(exc)) from exc
