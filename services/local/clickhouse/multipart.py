"""Splits a multipart/form-data body into its parts; pure, and within a bound on their number."""

import re
from dataclasses import dataclass

from services.local.clickhouse.errors import ErrorCode, refused

# A query with hundreds of parameters is already unusual.
PARTS_MAX = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part of a form: a file if it says that it is one, else a field."""

    name: str
    is_file: bool
    data: bytes


def read_parts(content_type: str, body: bytes) -> tuple[Part, ...]:
    """Split a form's body at its boundary."""
    found = BOUNDARY.search(content_type)
    if found is None:
        raise refused(ErrorCode.BAD_ARGUMENTS, "The multipart body names no boundary.")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    pieces = (b"\r\n" + body).split(delimiter, PARTS_MAX + 2)
    if len(pieces) > PARTS_MAX + 2:
        raise refused(ErrorCode.BAD_ARGUMENTS, f"The multipart body has more than {PARTS_MAX} parts.")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise refused(ErrorCode.BAD_ARGUMENTS, "The multipart body ends before its last boundary.")
    return tuple(_read_part(piece) for piece in pieces[1:-1])


BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;,]+))', re.IGNORECASE)
NAME = re.compile(r'[;\s]name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
FILE_NAME = re.compile(r"[;\s]filename\*?=", re.IGNORECASE)


def _read_part(piece: bytes) -> Part:
    head, separator, data = piece.partition(b"\r\n\r\n")
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name = NAME.search(line)
        if separator and name is not None and line.lower().startswith("content-disposition:"):
            return Part(name=name[1], is_file=FILE_NAME.search(line) is not None, data=data)
    raise refused(ErrorCode.BAD_ARGUMENTS, "A part of the multipart body has no name.")
