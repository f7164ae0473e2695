"""Reads an HTTP request into a job: parameters, settings, session, external tables, SQL; runs nothing."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from services.local.clickhouse.encodings import decode_body
from services.local.clickhouse.errors import ErrorCode, refused
from services.local.clickhouse.job import ExternalTable, Job, SessionWish
from services.local.clickhouse.multipart import Part, read_parts
from services.local.clickhouse.sessions import SESSION_TIMEOUT_S_DEFAULT, SESSION_TIMEOUT_S_MAX
from services.local.clickhouse.statements import read_statement

# Both as sent and decoded: about eight times a block of 100,000 rows of 40 columns.
BODY_BYTES_MAX = 256 * 1024**2

# Parameters of the HTTP interface, and the comment on a log that is not kept, in whose place statements carry
# their mark; every other parameter is a setting of the engine.
TRANSPORT_PARAMETERS = frozenset(
    {
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "log_comment",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "user",
        "wait_end_of_query",
    }
)
SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
PARAMETER_PREFIX = "param_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """An HTTP request as it came, headers by lower-case name."""

    method: str
    parameters: dict[str, str]
    headers: dict[str, str]
    body: bytes


def read_parameters(query_string: bytes) -> dict[str, str]:
    """Read the parameters of a URL; of a repeated one the last counts.

    SQL may hold any bytes: what is no UTF-8 is kept in its surrogates, and only there.
    """
    text = query_string.decode("utf-8", "surrogateescape")
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    return {_plain(name): value if name == "query" else _plain(value) for name, value in pairs}


def read_job(request: Request, query_id: str, mark: str) -> Job:
    """Read what is to be run, and with what."""
    parameters = request.parameters
    body = decode_body(request.body, request.headers.get("content-encoding", ""), BODY_BYTES_MAX)
    files: tuple[Part, ...] = ()
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        parts = read_parts(request.headers["content-type"], body)
        files = tuple(part for part in parts if part.is_file)
        fields = {part.name: part.data.decode("utf-8", "replace") for part in parts if not part.is_file}
        parameters, body = parameters | fields, b""
    if parameters.get("compress") == "1" or parameters.get("decompress") == "1":
        raise refused(ErrorCode.NOT_IMPLEMENTED, "ClickHouse's own block compression: use Content-Encoding.")
    external = tuple(_external_table(file, parameters) for file in files)
    used = {f"{table.name}_{field}" for table in external for field in ("format", "structure", "types")}
    return Job(
        mark=mark,
        query_id=query_id,
        statement=read_statement(parameters.get("query", "").encode("utf-8", "surrogateescape"), body),
        database=parameters.get("database") or request.headers.get("x-clickhouse-database", ""),
        settings=_settings(parameters, used),
        parameters=_query_parameters(parameters),
        external=external,
        default_format=parameters.get("default_format") or request.headers.get("x-clickhouse-format"),
        read_only=request.method in ("GET", "HEAD"),
        waits_for_end=parameters.get("wait_end_of_query") == "1",
        session=_session_wish(parameters),
    )


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _external_table(file: Part, parameters: dict[str, str]) -> ExternalTable:
    structure = parameters.get(f"{file.name}_structure", "")
    types = parameters.get(f"{file.name}_types", "")
    if not structure and types:
        structure = ", ".join(f"_{place} {kind}" for place, kind in enumerate(_split_types(types), start=1))
    if not structure:
        raise refused(
            ErrorCode.BAD_ARGUMENTS, f"External table {file.name!r} has neither structure nor types."
        )
    input_format = parameters.get(f"{file.name}_format", "TabSeparated")
    return ExternalTable(name=file.name, structure=structure, format=input_format, data=file.data)


def _split_types(types: str) -> list[str]:
    """Split a list of types at the commas that are not inside of a type."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _settings(parameters: dict[str, str], used: set[str]) -> dict[str, str]:
    settings = {
        name: value
        for name, value in parameters.items()
        if name not in TRANSPORT_PARAMETERS and name not in used and not name.startswith(PARAMETER_PREFIX)
    }
    for name in settings:
        if not SETTING_NAME.match(name):
            raise refused(ErrorCode.UNKNOWN_SETTING, f"Unknown setting {name!r}.")
    return settings


def _query_parameters(parameters: dict[str, str]) -> dict[str, str]:
    found = {
        name.removeprefix(PARAMETER_PREFIX): value
        for name, value in parameters.items()
        if name.startswith(PARAMETER_PREFIX)
    }
    for name in found:
        if not SETTING_NAME.match(name):
            raise refused(ErrorCode.BAD_ARGUMENTS, f"Query parameter {name!r} has no valid name.")
    return found


def _session_wish(parameters: dict[str, str]) -> SessionWish | None:
    session_id = parameters.get("session_id", "")
    if not session_id:
        return None
    asked = parameters.get("session_timeout", str(SESSION_TIMEOUT_S_DEFAULT))
    try:
        timeout_s = float(asked)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= SESSION_TIMEOUT_S_MAX:
        raise refused(
            ErrorCode.INVALID_SESSION_TIMEOUT,
            f"session_timeout is not between 0 and {SESSION_TIMEOUT_S_MAX:.0f} s.",
        )
    return SessionWish(
        session_id=session_id, timeout_s=timeout_s, must_exist=parameters.get("session_check") == "1"
    )
