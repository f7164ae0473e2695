"""Keeps uploaded files for as long as the simulation runs; never reads what is in them."""

import re
from datetime import UTC, datetime
from mmap import mmap
from typing import Literal

import msgspec

from services.local.anthropic.clock import Clock
from services.local.anthropic.errors import ApiFault
from services.local.anthropic.paging import Query, page_of
from services.local.anthropic.reply import Download
from services.local.anthropic.storage import PIECE_BYTES, Storage

UPLOAD_BYTES_MAX = 500 * 1024**2  # the published limit of a file
FILES_MAX = 10_000
PART_HEAD_BYTES_MAX = 8 * 1024
CURSOR_PREFIX = "page_"

Body = bytes | mmap


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the API shows it; here an upload may be downloaded again, which the real API refuses."""

    type: Literal["file"] = "file"
    id: str
    filename: str
    mime_type: str
    size_bytes: int
    created_at: str
    downloadable: bool = True


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of files, the newest first, for clients that follow either kind of cursor."""

    data: tuple[File, ...]
    next_page: str | None
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFile(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deletion."""

    id: str
    type: Literal["file_deleted"] = "file_deleted"


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    mime_type: str
    start: int
    end: int


class Files:
    """Every uploaded file."""

    def __init__(self, *, seed: int, clock: Clock, storage: Storage) -> None:
        self._seed = seed
        self._clock = clock
        self._storage = storage
        self._files: dict[str, File] = {}

    def upload(self, number: int, body: Body, content_type: str) -> File:
        """Take a file out of a multipart body."""
        if len(self._files) >= FILES_MAX:
            raise ApiFault(429, f"The simulation keeps at most {FILES_MAX} files; delete some")
        part = _file_part(body, content_type)
        file_id = f"file_01{self._seed:06d}{number:016d}"
        with self._storage.path_for(file_id, part.end - part.start).open("wb") as stored:
            for start in range(part.start, part.end, PIECE_BYTES):
                stored.write(body[start : min(start + PIECE_BYTES, part.end)])
        created = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")
        file = File(
            id=file_id,
            filename=part.filename,
            mime_type=part.mime_type,
            size_bytes=part.end - part.start,
            created_at=created,
        )
        self._files[file_id] = file
        return file

    def list(self, query: Query) -> FilePage:
        """Show one page."""
        if "page" in query:
            query = {**query, "after_id": [query["page"][0].removeprefix(CURSOR_PREFIX)]}
        ids, has_more = page_of([*reversed(self._files)], query, "file")
        return FilePage(
            data=tuple(self._files[file_id] for file_id in ids),
            next_page=CURSOR_PREFIX + ids[-1] if has_more else None,
            has_more=has_more,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
        )

    def show(self, file_id: str) -> File:
        """Show one file."""
        file = self._files.get(file_id)
        if file is None:
            raise ApiFault(404, f"File not found: {file_id}")
        return file

    def content(self, file_id: str) -> Download:
        """Read a file."""
        file = self.show(file_id)
        return Download(
            content_type=file.mime_type.encode(),
            content_bytes=file.size_bytes,
            pieces=self._storage.pieces(file_id),
        )

    def delete(self, file_id: str) -> DeletedFile:
        """Forget a file."""
        del self._files[self.show(file_id).id]
        self._storage.delete(file_id)
        return DeletedFile(id=file_id)


_BOUNDARY = re.compile(r'multipart/form-data\s*;.*\bboundary="?([^";,]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="?([^";\r]*)"?', re.IGNORECASE)
_FILENAME = re.compile(rb'filename="?([^"\r;]*)"?', re.IGNORECASE)
_TYPE = re.compile(rb"content-type:[ \t]*([^\r\n]+)", re.IGNORECASE)


def _file_part(body: Body, content_type: str) -> _Part:
    boundary = _BOUNDARY.match(content_type)
    if boundary is None:
        raise ApiFault(400, "The request must be multipart/form-data with a boundary")
    delimiter = b"--" + boundary[1].encode("latin-1")
    at = body.find(delimiter)
    while at >= 0 and body[at + len(delimiter) : at + len(delimiter) + 2] == b"\r\n":
        head_start = at + len(delimiter)
        head_end = body.find(b"\r\n\r\n", head_start, head_start + PART_HEAD_BYTES_MAX)
        at = body.find(b"\r\n" + delimiter, max(head_end, head_start))
        if head_end < 0 or at < 0:
            break
        head = body[head_start:head_end]
        name = _NAME.search(head)
        if name is not None and name[1] == b"file":
            return _Part(
                filename=_text(_FILENAME.search(head), "unnamed"),
                mime_type=_text(_TYPE.search(head), "application/octet-stream"),
                start=head_end + 4,
                end=at,
            )
        at += 2
    raise ApiFault(400, "file: Field required")


def _text(found: re.Match[bytes] | None, otherwise: str) -> str:
    return otherwise if found is None else found[1].decode("utf-8", "replace").strip() or otherwise
