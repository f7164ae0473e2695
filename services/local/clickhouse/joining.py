"""Joins the pieces of a streamed result, each of which the engine formats as if it were a result of its own.

A format that cannot be joined here, or a result with more than rows in it, is held whole.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# What rows follow each other in without anything between, before or behind them.
BARE_FORMATS = (
    "Native",
    "RowBinary",
    "TabSeparated",
    "TSV",
    "TabSeparatedRaw",
    "TSVRaw",
    "CSV",
    "JSONEachRow",
    "JSONLines",
    "NDJSON",
    "JSONStringsEachRow",
    "JSONCompactEachRow",
)
# Line ends within names are escaped in all of these but CSV, which quotes them.
LINE = rb"[^\n]*\n"
CSV_LINE = rb'(?:"(?:[^"]|"")*+"|[^"\n])*+\n'
HEADERS: Mapping[str, bytes] = {
    "TabSeparatedWithNames": LINE,
    "TSVWithNames": LINE,
    "TabSeparatedWithNamesAndTypes": LINE * 2,
    "TSVWithNamesAndTypes": LINE * 2,
    "CSVWithNames": CSV_LINE,
    "CSVWithNamesAndTypes": CSV_LINE * 2,
    "JSONCompactEachRowWithNames": LINE,
    "JSONCompactEachRowWithNamesAndTypes": LINE * 2,
}
ARROW_STREAM = "ARROWSTREAM"
# What stands around rows where one of these words does: totals, extremes, the brackets of an array.
FRAME_WORDS = re.compile(rb"TOTALS|EXTREMES|ARRAY_OF_ROWS", re.IGNORECASE)
# These hold rows only, whatever is asked for.
ROWS_ONLY = frozenset({"NATIVE", "ROWBINARY"})

# An Arrow message: this mark, the length of its metadata, the metadata, a body. The first one is the schema,
# which has no body; metadata of no length is the end.
ARROW_MARK = b"\xff\xff\xff\xff"
ARROW_END = ARROW_MARK + bytes(4)
ARROW_HEAD_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Joining:
    """How pieces of one format become one result."""

    header: re.Pattern[bytes] | None = None
    is_arrow: bool = False

    @property
    def has_frame(self) -> bool:
        """Tell whether a result without rows has bytes all the same, which only the engine can make."""
        return self.header is not None or self.is_arrow

    @property
    def end(self) -> bytes:
        """Give what is to be sent behind the last piece."""
        return ARROW_END if self.is_arrow else b""

    def first(self, piece: bytes) -> bytes:
        """Take the first piece."""
        return piece.removesuffix(ARROW_END) if self.is_arrow else piece

    def next(self, piece: bytes) -> bytes:
        """Take a later piece, without the header that the first one had already."""
        if self.is_arrow:
            metadata_bytes = int.from_bytes(piece[len(ARROW_MARK) : ARROW_HEAD_BYTES], "little")
            return piece[ARROW_HEAD_BYTES + metadata_bytes :].removesuffix(ARROW_END)
        if self.header is None:
            return piece
        found = self.header.match(piece)
        return piece[found.end() :] if found else piece


def joining_of(result_format: str, sql: bytes, settings: Iterable[str]) -> Joining | None:
    """Tell how a result's pieces are joined; nothing if it must be held whole."""
    name = result_format.upper()
    joining = JOININGS.get(name)
    if joining is None or name in ROWS_ONLY:
        return joining
    is_framed = FRAME_WORDS.search(sql) or FRAME_WORDS.search(" ".join(settings).encode())
    return None if is_framed else joining


JOININGS: Mapping[str, Joining] = {
    **{name.upper(): Joining() for name in BARE_FORMATS},
    **{name.upper(): Joining(header=re.compile(line, re.DOTALL)) for name, line in HEADERS.items()},
    ARROW_STREAM: Joining(is_arrow=True),
}
