"""Recognises what must be told apart in a request's SQL: an INSERT with its data, a SELECT, a FORMAT.

It reads tokens and never changes a statement, but for the ids in a KILL QUERY; whether the SQL is right is
for the engine to say.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from services.local.clickhouse.errors import ErrorCode, refused

# SQL beyond this is data in disguise: send it with INSERT ... FORMAT, which is not read token by token.
STATEMENT_BYTES_MAX = 16 * 1024**2

# Quotes and comments that are never closed run to the end: one look at each byte, however odd the input.
TOKEN = re.compile(
    rb"""
    (?P<blank>\s+ | --[^\n]* | \#[\ !][^\n]* | /\*.*?(?:\*/|\Z))
  | (?P<quoted>'(?:[^'\\]++|\\.)*+(?:'|\\?\Z)
             | `(?:[^`\\]++|\\.)*+(?:`|\\?\Z)
             | "(?:[^"\\]++|\\.)*+(?:"|\\?\Z))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9][A-Za-z0-9_.]*)
  | (?P<mark>.)
    """,
    re.DOTALL | re.VERBOSE,
)
# After the name of the format: blanks, at most one semicolon, at most one line end; then data, byte for byte.
DATA_START = re.compile(rb"[ \t\f]*;?[ \t\f]*(?:\r?\n)?")

SELECT_WORDS = frozenset({"SELECT", "WITH", "FROM", "("})


@dataclass(frozen=True, kw_only=True, slots=True)
class Insert:
    """An INSERT that brings its data along: what stands before SETTINGS, SETTINGS, the format, the data."""

    head: str
    format: str
    data: bytes
    settings: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Any other statement, with its first word and the format it asks for itself."""

    sql: bytes
    keyword: str
    format: str | None

    @property
    def begins(self) -> bool:
        """Tell whether there is a beginning that could be one of SQL."""
        return self.keyword == "(" or (self.keyword.isascii() and self.keyword.isidentifier())

    @property
    def is_select(self) -> bool:
        """Tell whether the engine can compute the result block by block."""
        return self.keyword in SELECT_WORDS


def with_literals_replaced(sql: bytes, replacements: Mapping[str, str]) -> bytes:
    """Write other string literals in place of some; both sides are ids, which need no escaping."""

    def replaced(match: re.Match[bytes]) -> bytes:
        known = replacements.get(match[0][1:-1].decode("utf-8", "replace"))
        return match[0] if known is None or match[0][:1] != b"'" else b"'%s'" % known.encode()

    return TOKEN.sub(replaced, sql)


def read_statement(query: bytes, body: bytes) -> Insert | Query:
    """Read the SQL of a request: the `query` parameter, a line end, then the body."""
    if query:
        insert = _read_insert(query)
        if insert is not None and not insert.data:
            return replace(insert, data=body)
    sql = query + b"\n" + body if query and body else query or body
    insert = _read_insert(sql)
    return insert if insert is not None else _read_query(sql)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def _tokens(sql: bytes) -> Iterator[_Token]:
    """Yield what is neither blank nor comment; words in upper case."""
    for match in TOKEN.finditer(sql):
        kind = match.lastgroup or "mark"
        if match.end() > STATEMENT_BYTES_MAX:
            raise refused(
                ErrorCode.QUERY_IS_TOO_LARGE, f"The statement has more than {STATEMENT_BYTES_MAX} bytes."
            )
        if kind == "word":
            yield _Token(kind, match[0].decode("ascii").upper(), match.start(), match.end())
        elif kind != "blank":
            yield _Token(
                kind, match[0].decode("latin-1") if kind == "mark" else "", match.start(), match.end()
            )


def _outer_tokens(sql: bytes) -> Iterator[_Token]:
    """Yield the tokens outside of all parentheses; a name after a dot is no keyword, so it loses its text."""
    depth, after_dot = 0, False
    for token in _tokens(sql):
        if token.text in ("(", "["):
            depth += 1
        if depth == 0:
            yield _Token(token.kind, "" if after_dot else token.text, token.start, token.end)
        elif depth == 1 and token.text == "(":
            yield token
        if token.text in (")", "]"):
            depth = max(0, depth - 1)
        after_dot = token.text == "."


def _read_insert(sql: bytes) -> Insert | None:
    tokens = _outer_tokens(sql)
    first = next(tokens, None)
    if first is None or first.text != "INSERT":
        return None
    settings_start: int | None = None
    for token in tokens:
        if token.text in ("SELECT", "VALUES", "WITH", "FROM"):
            return None
        if token.text == "SETTINGS" and settings_start is None:
            settings_start = token.start
        if token.text == "FORMAT":
            name = next(tokens, None)
            if name is None or name.kind != "word":
                return None
            data_start = DATA_START.match(sql, name.end)
            head_end = token.start if settings_start is None else settings_start
            return Insert(
                # A line end stays: it may be what ends a comment.
                head=_text(sql[:head_end]),
                settings=_text(sql[head_end : token.start]),
                format=sql[name.start : name.end].decode("ascii"),
                data=sql[data_start.end() if data_start else name.end :],
            )
    return None


def _text(sql: bytes) -> str:
    return sql.decode("utf-8", "surrogateescape").rstrip(" \t")


def _read_query(sql: bytes) -> Query:
    tokens = _outer_tokens(sql)
    first = next(tokens, None)
    if first is None:
        return Query(sql=sql, keyword="", format=None)
    if first.text == "INSERT":
        # What follows VALUES can be long, and an INSERT has no result to format.
        return Query(sql=sql, keyword="INSERT", format=None)
    return Query(sql=sql, keyword=first.text, format=_trailing_format(sql, tokens))


def _trailing_format(sql: bytes, tokens: Iterator[_Token]) -> str | None:
    """Find FORMAT and a name, followed by nothing but SETTINGS or the end."""
    found: str | None = None
    previous = ""
    in_settings = False
    for token in tokens:
        if previous == "FORMAT" and token.kind == "word" and token.text != "FROM":
            found = sql[token.start : token.end].decode("ascii")
        elif token.text == "SETTINGS":
            in_settings = True
        elif token.text not in (";", "FORMAT") and not in_settings:
            found = None
        previous = token.text
    return found
