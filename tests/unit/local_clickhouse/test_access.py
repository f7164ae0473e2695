"""Who gets in: this machine's programs with the right password, and no web page."""

from base64 import b64encode

import pytest

from services.local.clickhouse.access import Account, check_access, is_loopback
from services.local.clickhouse.errors import ErrorCode, QueryFailed
from services.local.clickhouse.request import Request

ACCOUNT = Account(user="ann", password="pä:ss")


def refusal_of(account=ACCOUNT, parameters=None, **headers):
    """Tell the code of the refusal, nothing if there is none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        check_access(Request(method="POST", parameters=parameters or {}, headers=named, body=b""), account)
    except QueryFailed as failure:
        return failure.code
    return None


def basic(text):
    return "Basic " + b64encode(text.encode()).decode()


def test_the_password_is_found_wherever_clients_put_it():
    assert refusal_of(x_clickhouse_user="ann", x_clickhouse_key="pä:ss") is None
    assert refusal_of(authorization=basic("ann:pä:ss")) is None
    assert refusal_of(parameters={"user": "ann", "password": "pä:ss"}) is None
    assert refusal_of(Account()) is None
    assert refusal_of(Account(), authorization=basic("default:")) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_clickhouse_user": "ann"},
        {"x_clickhouse_user": "ann", "x_clickhouse_key": "pass"},
        {"authorization": basic("bob:pä:ss")},
        {"authorization": "Basic %%%"},
        {"authorization": "Bearer token"},
    ],
)
def test_other_credentials_are_refused(headers):
    assert refusal_of(**headers) == ErrorCode.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "localhost:8123"}, None),
        ({"host": "127.0.0.1"}, None),
        ({"host": "[::1]:8123", "origin": "http://localhost:3000"}, None),
        ({"host": "rebound.example:8123"}, ErrorCode.ACCESS_DENIED),
        ({"host": "localhost", "origin": "https://page.example"}, ErrorCode.ACCESS_DENIED),
        ({"host": "localhost", "origin": "null"}, ErrorCode.ACCESS_DENIED),
        ({"host": "localhost", "origin": "http://[bad"}, ErrorCode.ACCESS_DENIED),
    ],
)
def test_a_web_page_is_refused_even_without_a_password_to_know(headers, code):
    assert refusal_of(Account(), **headers) == code


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("h", False),
    ],
)
def test_loopback_is_known_by_its_addresses_and_its_name(host, answer):
    assert is_loopback(host) is answer
