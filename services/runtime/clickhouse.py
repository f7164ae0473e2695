"""Speaks to ClickHouse over HTTP, and says of every failure what the caller does next; the only such module.

A failure's text names ClickHouse's error and its code, never the server's sentence: that may quote a row.
"""

# clickhouse-connect annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, urlsplit

import msgspec
from clickhouse_connect import get_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError, Error, ProgrammingError

from services.runtime.config import Variable
from services.runtime.errors import TollhouseError

ENVIRONMENT = (
    Variable("CLICKHOUSE_URL", "clickhouse.url"),
    Variable("CLICKHOUSE_USER", "clickhouse.user"),
    Variable("CLICKHOUSE_PASSWORD", "clickhouse.password"),
)

# ClickHouse's own error codes, by what they ask of us. Every code that stands in neither set is taken for the
# server's trouble and tried again: waiting loses nothing, while stopping or dead-lettering for it would.
MISMATCH_CODES = frozenset(
    {
        16,  # NO_SUCH_COLUMN_IN_TABLE
        20,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
        36,  # BAD_ARGUMENTS
        44,  # ILLEGAL_COLUMN
        47,  # UNKNOWN_IDENTIFIER
        48,  # NOT_IMPLEMENTED
        50,  # UNKNOWN_TYPE
        57,  # TABLE_ALREADY_EXISTS
        60,  # UNKNOWN_TABLE
        62,  # SYNTAX_ERROR
        73,  # UNKNOWN_FORMAT
        81,  # UNKNOWN_DATABASE
        115,  # UNKNOWN_SETTING
        164,  # READONLY: the user may not write
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        452,  # SETTING_CONSTRAINT_VIOLATION
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)
REFUSED_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        376,  # CANNOT_PARSE_UUID
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)
MISSING_CODES = frozenset({60, 81})  # UNKNOWN_TABLE, UNKNOWN_DATABASE

ERROR_CHARS_MAX = 300  # of a network error's text: the address and the reason, not a page of HTML

INSERT_SETTINGS: Mapping[str, str | int] = {
    "async_insert": 0,  # 1 by default since 26: the answer must mean that the part is written
    "wait_end_of_query": 1,  # errors come as a status, not behind a 200
    "insert_deduplicate": 1,  # by the token; since 26 a default that goes by another name
    "deduplicate_blocks_in_dependent_materialized_views": 1,  # should an operator hang a view on the table
    "max_partitions_per_insert_block": 0,  # a replay may span years; blocks are limited by their rows
}


class StoreError(TollhouseError):
    """Base of what may go wrong with ClickHouse; `code` is ClickHouse's, None where it never answered."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class StoreUnavailable(StoreError):
    """ClickHouse could not be reached or could not take it now: wait and try the same again."""


class StoreMismatch(StoreError):
    """Tables, rights or settings are not what this code expects: stop, a person has to act."""


class RowsRefused(StoreError):
    """At least one row of the block can never be stored: find it and set it aside."""


class ClickHouseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where ClickHouse is and who we are there."""

    url: str = "http://127.0.0.1:8123"
    user: str = "default"
    password: str = ""
    connect_timeout_ms: int = 5_000
    answer_timeout_ms: int = 60_000

    def faults(self) -> Iterable[str]:
        """Say what does not fit: the address must be usable and must hold no secret."""
        if self.connect_timeout_ms <= 0:
            yield "connect_timeout_ms: must be above 0"
        if self.answer_timeout_ms < self.connect_timeout_ms:
            yield "answer_timeout_ms: must be at least connect_timeout_ms"
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            yield "url: is not an address"
            return
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            yield "url: must be http://host:port or https://host:port"
        if "@" in parts.netloc:
            yield "url: must not hold credentials, they go into user and password"
        if parts.query or parts.fragment:
            yield "url: must end with its path"

    def __repr__(self) -> str:
        return f"ClickHouseConfig(url={self.url!r}, user={self.user!r}, ...)"


class ClickHouse:
    """A client that connects when it is first needed; safe for concurrent use within one event loop."""

    def __init__(self, config: ClickHouseConfig) -> None:
        self._config = config
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; what is under way fails as unavailable."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def command(self, sql: str) -> None:
        """Run one statement that answers with no rows."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                client = await self._connected()
                await client.command(sql, settings={"async_insert": 0})
        except (ClickHouseError, OSError) as exc:
            raise failure_of(exc) from exc

    async def rows(
        self, sql: str, parameters: Mapping[str, str | int] | None = None
    ) -> Sequence[Sequence[object]]:
        """Run one query and give all of its rows; `{name:Type}` in it is a parameter, sent beside it."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                client = await self._connected()
                return (
                    await client.query(sql, parameters=dict(parameters) if parameters else None)
                ).result_rows
        except (ClickHouseError, OSError) as exc:
            raise failure_of(exc) from exc

    async def insert(
        self,
        table: str,
        names: Sequence[str],
        types: Sequence[str],
        columns: Sequence[Sequence[object]],
        token: str,
    ) -> None:
        """Insert one block and return when it is written; the same token makes a repetition harmless."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                client = await self._connected()
                await client.insert(
                    table,
                    columns,
                    column_names=names,
                    column_type_names=types,
                    column_oriented=True,
                    settings={**INSERT_SETTINGS, "insert_deduplication_token": token},
                )
        except (ClickHouseError, OSError) as exc:
            raise failure_of(exc) from exc

    @property
    def _answer_timeout_s(self) -> float:
        return self._config.answer_timeout_ms / 1000

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await _client(self._config, urlsplit(self._config.url))
            return self._client


def failure_of(error: ClickHouseError | OSError) -> StoreError:
    """Sort a failure by its type and code; TimeoutError is an OSError."""
    if isinstance(error, DataError):
        return RowsRefused("a value does not fit its column")
    code = error.code if isinstance(error, Error) else None
    if code is None:
        if isinstance(error, ProgrammingError):
            return StoreMismatch(f"the client refused: {str(error)[:ERROR_CHARS_MAX]}")
        return StoreUnavailable(str(error)[:ERROR_CHARS_MAX] or "no answer in time")
    name = error.name if isinstance(error, Error) else None
    text = f"{name or 'unnamed error'} (code {code})"
    if code in REFUSED_CODES:
        return RowsRefused(text, code)
    if code in MISMATCH_CODES:
        return StoreMismatch(text, code)
    return StoreUnavailable(text, code)


async def _client(config: ClickHouseConfig, address: SplitResult) -> AsyncClient:
    return await get_async_client(
        interface=address.scheme,
        host=address.hostname or "",
        port=address.port or (8443 if address.scheme == "https" else 8123),
        proxy_path=address.path,
        username=config.user,
        password=config.password,
        connect_timeout=config.connect_timeout_ms / 1000,
        send_receive_timeout=config.answer_timeout_ms / 1000,
        autogenerate_session_id=False,  # a session serialises its queries and costs a round of settings
        query_retries=0,  # one place decides about trying again: the caller
        client_name="tollhouse",
    )
