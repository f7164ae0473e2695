"""Brings ClickHouse's tables to what the code expects, forward only; refuses a database that differs.

A migration is a numbered SQL file that is never edited once it has been applied anywhere. ClickHouse has
no transactions around them, so every statement must be harmless when it is run again: what was
interrupted, or is done twice at once, comes out the same.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from services.runtime.clickhouse import (
    MISSING_CODES,
    ClickHouse,
    ClickHouseConfig,
    StoreError,
)
from services.runtime.errors import StartRefused

MIGRATIONS = resources.files("schemas").joinpath("clickhouse")

_FILE_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
# What may hold a semicolon without ending a statement, and the semicolon itself. Alternatives are tried in
# order; an unfinished quote or comment runs to the end of the text.
_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]* | /\*.*?(?:\*/|\Z))
  | (?P<quoted>'(?:\\.|[^'\\])*(?:'|\Z) | "(?:\\.|[^"\\])*(?:"|\Z) | `(?:\\.|[^`\\])*(?:`|\Z))
  | (?P<end>;)
  | (?P<other>[^-/'"`;]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)

_PREPARE = (
    "CREATE DATABASE IF NOT EXISTS tollhouse_raw",
    """
    CREATE TABLE IF NOT EXISTS tollhouse_raw.schema_migrations
    (number UInt32, name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
    ENGINE = ReplacingMergeTree ORDER BY number
    """,
)


class Applied(NamedTuple):
    """A migration that the database has, by the number and the hash that it was applied with."""

    number: int
    name: str
    sha256: str


class Migration(NamedTuple):
    """A migration that the code has."""

    number: int
    name: str
    sha256: str
    statements: tuple[str, ...]


async def migrate_tables(config: ClickHouseConfig, source: Traversable = MIGRATIONS) -> list[Applied]:
    """Apply what is missing, in order, and give what was applied; StartRefused on any contradiction."""
    migrations = read_migrations(source)
    async with ClickHouse(config) as clickhouse:
        try:
            for statement in _PREPARE:
                await clickhouse.command(statement)
            missing = _missing(migrations, await _applied(clickhouse))
        except StoreError as exc:
            raise _refusal(config, exc) from exc
        return [await _apply(clickhouse, config, migration) for migration in missing]


async def check_tables(config: ClickHouseConfig, source: Traversable = MIGRATIONS) -> None:
    """Refuse to start on a database that is behind the code, ahead of it, or differs from it."""
    async with ClickHouse(config) as clickhouse:
        try:
            applied = await _applied(clickhouse)
        except StoreError as exc:
            if exc.code not in MISSING_CODES:
                raise _refusal(config, exc) from exc
            applied = {}
    missing = _missing(read_migrations(source), applied)
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise StartRefused(f"ClickHouse at {config.url} lacks {names}: run `tollhouse migrate` first.")


def read_migrations(source: Traversable) -> tuple[Migration, ...]:
    """Read the numbered files of a folder; they count from 1 without a gap."""
    files = sorted(
        (file for file in source.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    migrations: list[Migration] = []
    for position, file in enumerate(files, start=1):
        match = _FILE_NAME.fullmatch(file.name)
        if match is None or int(match["number"]) != position:
            raise StartRefused(f"the migration {file.name} should be number {position:04}: NNNN_name.sql.")
        # A checkout may have turned line ends; the story told is the same.
        text = file.read_bytes().replace(b"\r\n", b"\n")
        digest = hashlib.sha256(text).hexdigest()
        migrations.append(Migration(position, file.name, digest, split_statements(text.decode())))
    return tuple(migrations)


def split_statements(sql: str) -> tuple[str, ...]:
    """Split at semicolons that stand in no quote and no comment; what holds only comments is left out."""
    statements: list[str] = []
    parts: list[str] = []
    for token in _TOKEN.finditer(sql):
        if token.lastgroup == "end":
            statements.append("".join(parts).strip())
            parts.clear()
        elif token.lastgroup == "comment":
            parts.append(" ")  # a comment separates words as a blank does
        else:
            parts.append(token[0])
    statements.append("".join(parts).strip())
    return tuple(statement for statement in statements if statement)


def _missing(migrations: Sequence[Migration], applied: Mapping[int, Applied]) -> list[Migration]:
    known = {migration.number: migration for migration in migrations}
    for number, found in sorted(applied.items()):
        if number not in known:
            raise StartRefused(
                f"the database has {found.name}, which this version of Tollhouse does not know: it is older "
                "than the database, start a newer one."
            )
        if known[number].sha256 != found.sha256:
            raise StartRefused(
                f"{known[number].name} was edited after it had been applied as {found.name}: put the file "
                "back and write the change as a new migration."
            )
    return [migration for migration in migrations if migration.number not in applied]


async def _applied(clickhouse: ClickHouse) -> dict[int, Applied]:
    rows = await clickhouse.rows("SELECT number, name, sha256 FROM tollhouse_raw.schema_migrations FINAL")
    found = [Applied(int(str(number)), str(name), str(sha256)) for number, name, sha256 in rows]
    return {each.number: each for each in found}


async def _apply(clickhouse: ClickHouse, config: ClickHouseConfig, migration: Migration) -> Applied:
    applied = Applied(migration.number, migration.name, migration.sha256)
    # Neither the name nor the hash can hold a quote: the one matched _FILE_NAME, the other is hexadecimal.
    note = (
        "INSERT INTO tollhouse_raw.schema_migrations (number, name, sha256) "
        f"VALUES ({applied.number}, '{applied.name}', '{applied.sha256}')"
    )
    for position, statement in enumerate((*migration.statements, note), start=1):
        try:
            await clickhouse.command(statement)
        except StoreError as exc:
            if exc.code is None:
                raise _refusal(config, exc) from exc
            # The statement is ours and holds no row, so the server's own sentence may be told.
            raise StartRefused(
                f"ClickHouse refused statement {position} of {migration.name}: {exc.__cause__}"
            ) from exc
    return applied


def _refusal(config: ClickHouseConfig, error: StoreError) -> StartRefused:
    if error.code is None:
        return StartRefused(f"ClickHouse at {config.url} cannot be reached as {config.user}: {error}.")
    return StartRefused(f"ClickHouse at {config.url} would not let {config.user} go on: {error}.")
