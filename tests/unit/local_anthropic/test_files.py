"""Files go in as multipart and come out byte for byte; and bodies that are sent while they are read."""

import gzip

import pytest

from services.local.anthropic.reply import BodyCut
from tests.unit.local_anthropic.callers import Caller

FORM = "multipart/form-data; boundary=line"
CONTENT = b"\x00\r\n--lin\r\n\r\nbytes\xff" * 9_000


@pytest.fixture
def caller():
    return Caller()


def form(content=CONTENT, name=b"file"):
    return (
        b'--line\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser\r\n'
        b'--line\r\ncontent-disposition: form-data; name="' + name + b'"; filename="a b.bin"\r\n'
        b"Content-Type: application/x-bin\r\n\r\n" + content + b"\r\n--line--\r\n"
    )


def upload(caller, content=CONTENT):
    return caller.ask("POST", "/v1/files", form(content), content_type=FORM)


def test_an_upload_is_described(caller):
    assert upload(caller) == {
        "type": "file",
        "id": "file_010000000000000000000001",
        "filename": "a b.bin",
        "mime_type": "application/x-bin",
        "size_bytes": len(CONTENT),
        "created_at": "2027-01-15T08:00:00.000000+00:00",
        "downloadable": True,
    }


def test_content_comes_back_byte_for_byte(caller):
    file = upload(caller)
    reply, content = caller.call("GET", f"/v1/files/{file['id']}/content")
    headers = dict(reply.headers)
    assert content == CONTENT
    assert (headers[b"content-type"], headers[b"content-length"]) == (
        b"application/x-bin",
        b"%d" % len(CONTENT),
    )


def test_files_are_listed_by_cursor_and_deleted(caller):
    ids = [upload(caller, b"%d" % number)["id"] for number in range(3)][::-1]
    first = caller.ask("GET", "/v1/files?limit=2")
    rest = caller.ask("GET", f"/v1/files?limit=2&page={first['next_page']}")
    assert [file["id"] for file in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"], rest["next_page"]) == (True, False, None)
    assert caller.ask("DELETE", f"/v1/files/{ids[0]}") == {"id": ids[0], "type": "file_deleted"}
    assert caller.refused("GET", f"/v1/files/{ids[0]}")[:2] == (404, "not_found_error")
    assert caller.refused("GET", f"/v1/files/{ids[0]}/content")[0] == 404


@pytest.mark.parametrize(
    ("body", "kind"),
    [(form(name=b"other"), FORM), (b"{}", "application/json"), (b"--line\r\n", FORM), (b"", FORM)],
)
def test_a_body_without_a_file_is_refused(caller, body, kind):
    assert caller.refused("POST", "/v1/files", body, content_type=kind)[0] == 400


def test_a_download_can_be_coded_and_cut_in_pieces(caller):
    place = f"/v1/files/{upload(caller)['id']}/content"
    reply, content = caller.call("GET", place, spec="gzip")
    assert dict(reply.headers)[b"content-encoding"] == b"gzip"
    assert (gzip.decompress(content), b"content-length" in dict(reply.headers)) == (CONTENT, False)
    reply, _ = caller.call("GET", place, spec="chunk-bytes=1000")
    assert reply.pieces is not None


def test_a_download_can_be_cut_off(caller):
    place = f"/v1/files/{upload(caller)['id']}/content"
    pieces, received = iter(caller.reply("GET", place, spec="cut-after-bytes=70000").pieces), []
    with pytest.raises(BodyCut):
        while True:
            received.append(next(pieces))
    assert b"".join(received) == CONTENT[:70_000]
