"""Forms carry external tables byte for byte, whatever the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.multipart import PARTS_MAX, Part, read_parts

BOUNDARY = b"boundary-of-the-test"


def form(parts):
    """Write a form as clients do."""
    body = b""
    for part in parts:
        file_name = b'; filename="f.csv"' if part.is_file else b""
        head = b'Content-Disposition: form-data; name="%s"%s' % (part.name.encode(), file_name)
        body += b"--" + BOUNDARY + b"\r\n" + head + b"\r\nContent-Type: x/y\r\n\r\n" + part.data + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


@given(
    st.lists(
        st.builds(
            Part,
            name=st.text(alphabet="abcxyz_0123", min_size=1, max_size=8),
            is_file=st.booleans(),
            data=st.one_of(
                st.binary(max_size=200), st.sampled_from([b"\r\n", b"--", b"\r\n\r\n", b"\r\n--"])
            ),
        ),
        max_size=6,
    )
)
def test_parts_come_out_as_they_went_in(parts):
    content_type = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    assert read_parts(content_type, form(parts)) == tuple(parts)
    assert read_parts(f'multipart/form-data; boundary="{BOUNDARY.decode()}"', form(parts)) == tuple(parts)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx'),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n" * (PARTS_MAX + 2) + b"--b--"),
    ],
)
def test_a_broken_form_is_refused(content_type, body):
    with pytest.raises(QueryFailed) as refusal:
        read_parts(content_type, body)
    assert refusal.value.code == ErrorCode.BAD_ARGUMENTS
