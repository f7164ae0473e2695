"""Brings in what the optional extra `local` installs (chDB and lz4), and is the only module that imports it.

chDB is imported when the first handle is opened, so that a missing extra is one sentence for the person who
starts the server and not a traceback.
"""

from collections.abc import Mapping
from typing import Protocol, TypedDict, cast

from services.runtime.errors import StartRefused

MISSING_EXTRA = "The local ClickHouse needs chDB and lz4: run pip install 'tollhouse[local]'."


class Result(Protocol):
    """What the engine hands back: formatted bytes and what it took to make them."""

    def bytes(self) -> bytes | None:
        """Give the formatted rows, nothing if there were none."""
        ...

    def rows_read(self) -> int:
        """Count the rows of the result."""
        ...

    def storage_rows_read(self) -> int:
        """Count the rows read from tables."""
        ...

    def storage_bytes_read(self) -> int:
        """Count the bytes read from tables."""
        ...

    def rows_written(self) -> int:
        """Count the rows written to tables."""
        ...

    def bytes_written(self) -> int:
        """Count the bytes written to tables."""
        ...


class Stream(Protocol):
    """A result that the engine computes block by block while it is read."""

    def fetch(self) -> Result | None:
        """Compute the next block; nothing at the end."""
        ...

    def cancel(self) -> None:
        """Stop computing."""
        ...


class Handle(Protocol):
    """One connection to the engine: its own current database, settings and temporary tables."""

    def query(self, query: str | bytes, format: str, params: Mapping[str, str] | None = None) -> Result:
        """Run a statement and hold its whole result."""
        ...

    def send_query(self, query: str | bytes, format: str, params: Mapping[str, str] | None = None) -> Stream:
        """Start a SELECT whose result is fetched block by block."""
        ...

    def close(self) -> None:
        """Give the handle back; the engine ends with its last handle."""
        ...


class FrameDecompressor(Protocol):
    """Decodes one lz4 frame."""

    eof: bool
    needs_input: bool
    unused_data: bytes | None

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Decode up to `max_length` bytes."""
        ...


class FrameCompressor(Protocol):
    """Encodes one lz4 frame."""

    def begin(self) -> bytes:
        """Open the frame."""
        ...

    def compress(self, data: bytes) -> bytes:
        """Encode more of it."""
        ...

    def flush(self) -> bytes:
        """Close the frame."""
        ...


class Kind(Protocol):
    """A member of the engine's own enumeration of kinds."""

    name: str


class Classified(TypedDict):
    """What the engine's parser tells about SQL, as far as it matters here."""

    query_class: Kind
    statement_count: int


class Classifier(Protocol):
    """The part of chDB's inner connection that parses without running."""

    def classify_query(self, sql: str) -> Classified:
        """Tell what the SQL would do."""
        ...


def open_handle(target: str) -> Handle:
    """Open a handle on a directory, given as a path and options; the first one starts the engine."""
    try:
        import chdb
    except ImportError as exc:
        raise StartRefused(MISSING_EXTRA) from exc
    return cast(Handle, chdb.connect(target))


def lz4_decompressor() -> FrameDecompressor:
    """Make a decoder for one lz4 frame."""
    try:
        import lz4.frame
    except ImportError as exc:
        raise StartRefused(MISSING_EXTRA) from exc
    return cast(FrameDecompressor, lz4.frame.LZ4FrameDecompressor())


def lz4_compressor() -> FrameCompressor:
    """Make an encoder for one lz4 frame."""
    try:
        import lz4.frame
    except ImportError as exc:
        raise StartRefused(MISSING_EXTRA) from exc
    return cast(FrameCompressor, lz4.frame.LZ4FrameCompressor())


def statement_kind(handle: Handle, statement: str) -> tuple[str, int]:
    """Let the engine's parser tell what SQL would do and how many statements it is.

    The kinds are READ_ONLY, MUTATING, CONTROL and, for what does not parse, UNKNOWN.
    """
    # chDB offers this on its inner connection only.
    told = cast(Classifier, getattr(handle, "_conn")).classify_query(statement)  # noqa: B009 (unknown to the type)
    return told["query_class"].name, told["statement_count"]
