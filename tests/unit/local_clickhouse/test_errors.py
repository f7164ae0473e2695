"""Errors keep the code and the wording by which clients know them."""

import pytest

from services.local.clickhouse.errors import ErrorCode, engine_failure, http_status, refused


def test_a_refusal_is_worded_like_an_engine_error():
    failure = refused(ErrorCode.READONLY, "No.")
    assert (failure.code, failure.text) == (164, "Code: 164. DB::Exception: No. (READONLY)")


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("Code: 60. DB::Exception: x. (UNKNOWN_TABLE)", 60, "Code: 60. DB::Exception: x. (UNKNOWN_TABLE)"),
        ("Streaming query failed: Code: 159. Late.\n", 159, "Code: 159. Late."),
        ("odd", 1002, "Code: 1002. DB::Exception: odd (UNKNOWN_EXCEPTION)"),
    ],
)
def test_the_code_is_read_out_of_the_engines_message(message, code, text):
    failure = engine_failure(message)
    assert (failure.code, failure.text) == (code, text)


def test_codes_have_the_status_that_a_server_sends():
    assert [http_status(code) for code in (62, 60, 516, 159, 241, 229)] == [400, 404, 403, 408, 500, 413]
