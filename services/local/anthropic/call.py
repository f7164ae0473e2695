"""Carries one request as far as its reply depends on it; decides nothing."""

from collections.abc import Mapping
from mmap import mmap
from urllib.parse import parse_qs

import msgspec

from services.local.anthropic.batch_request import BATCH_BYTES_MAX
from services.local.anthropic.encoding import read_compressed
from services.local.anthropic.errors import ApiFault
from services.local.anthropic.files import UPLOAD_BYTES_MAX
from services.local.anthropic.request import BODY_BYTES_MAX

QUERY_FIELDS_MAX = 100
MULTIPART_BYTES_MAX = 64 * 1024  # what an upload may have around its file

_BODY_BYTES_MAX = {
    ("POST", "/v1/messages/batches"): BATCH_BYTES_MAX,
    ("POST", "/v1/files"): UPLOAD_BYTES_MAX + MULTIPART_BYTES_MAX,
}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request; header names are in lower case, a large body lies on disk."""

    number: int
    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes | mmap

    def plain_body(self) -> bytes | mmap:
        """Give the body without its content-encoding."""
        bytes_max = body_bytes_max(self.method, self.path)
        if len(self.body) > bytes_max:
            raise ApiFault(413)
        coding = self.headers.get(b"content-encoding")
        if coding is None:
            return self.body
        return read_compressed(self.body, coding.decode("latin-1").lower(), bytes_max)

    def fields(self) -> dict[str, list[str]]:
        """Read the query."""
        try:
            return parse_qs(self.query.decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX)
        except ValueError as exc:
            raise ApiFault(400, "Too many query parameters") from exc


def body_bytes_max(method: str, path: str) -> int:
    """Say how long the body of a request may be."""
    return _BODY_BYTES_MAX.get((method, path), BODY_BYTES_MAX)
