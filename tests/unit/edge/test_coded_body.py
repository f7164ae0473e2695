"""A body in a content coding is read within a bound, and goes up as it came unless something was cut."""

import gzip
import zlib

import brotli
import pytest
from backports import zstd

from services.edge.body import BodyView
from services.edge.coded_body import DecodedTooLarge, ReadBody, read_coded_body

PLAIN = b'{"model":"m","stream":true,"metadata":{"user_id":"u"}}'
WITH_METADATA = b'{"model":"m","litellm_metadata":{"user":"x"}}'
BYTES_MAX = 1 << 20
CODERS = {
    "gzip": gzip.compress,
    "GZIP": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("coding", CODERS)
def test_a_coded_body_is_read_and_goes_up_as_it_came(coding):
    came = CODERS[coding](PLAIN)
    view = BodyView(model="m", is_stream=True, user_id="u")
    assert read_coded_body(came, coding, BYTES_MAX) == ReadBody(view, came)


@pytest.mark.parametrize("coding", CODERS)
def test_a_coded_body_that_was_cut_goes_up_without_its_coding(coding):
    came = CODERS[coding](WITH_METADATA)
    view = BodyView(model="m", litellm_metadata={"user": "x"})
    assert read_coded_body(came, coding, BYTES_MAX) == ReadBody(view, b'{"model":"m"}', is_decoded=True)


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("model", ["n", "claude-haiku-4-5"])
def test_a_coded_body_in_which_an_alias_is_asked_for_goes_up_without_its_coding(coding, model):
    """A model may be as long as its alias, so that the length of the body tells nothing."""
    read = read_coded_body(CODERS[coding](PLAIN), coding, BYTES_MAX, {"m": model})
    content = PLAIN.replace(b'"m"', b'"%s"' % model.encode())
    assert read == ReadBody(BodyView(model=model, is_stream=True, user_id="u"), content, is_decoded=True)


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_a_body_in_no_coding_is_cut_in_place(coding):
    read = read_coded_body(WITH_METADATA, coding, BYTES_MAX)
    assert (read.content, read.is_decoded) == (b'{"model":"m"}', False)


@pytest.mark.parametrize(
    ("came", "coding"),
    [
        (PLAIN, "gzip"),
        (gzip.compress(PLAIN, mtime=0)[:20], "gzip"),
        (brotli.compress(PLAIN)[:10], "br"),
        (zstd.compress(PLAIN)[:10], "zstd"),
        (PLAIN, "zstd"),
        (PLAIN, "br"),
        (gzip.compress(PLAIN, mtime=0), "rot13"),
        (gzip.compress(gzip.compress(WITH_METADATA, mtime=0), mtime=0), "gzip, gzip"),
        (gzip.compress(b"no json", mtime=0), "gzip"),
    ],
)
def test_a_broken_or_unknown_coding_passes_as_it_came(came, coding):
    assert read_coded_body(came, coding, BYTES_MAX) == ReadBody(BodyView(), came)


@pytest.mark.parametrize("coding", CODERS)
def test_a_body_that_claims_too_much_is_not_read_to_its_end(coding):
    bomb = CODERS[coding](bytes(8 * BYTES_MAX))
    with pytest.raises(DecodedTooLarge):
        read_coded_body(bomb, coding, BYTES_MAX)


def test_a_body_as_long_as_the_limit_is_read():
    body = b'{"model":"m","x":"' + b"x" * (BYTES_MAX - 20) + b'"}'
    assert read_coded_body(gzip.compress(body), "gzip", len(body)).view.model == "m"
    with pytest.raises(DecodedTooLarge):
        read_coded_body(gzip.compress(body), "gzip", len(body) - 1)
