"""What the caller is told to do after each failure, and which addresses are refused."""

import pytest
from clickhouse_connect.driver.exceptions import (
    DatabaseError,
    DataError,
    OperationalError,
    ProgrammingError,
)

from services.runtime.clickhouse import (
    ENVIRONMENT,
    MISMATCH_CODES,
    REFUSED_CODES,
    ClickHouseConfig,
    RowsRefused,
    StoreMismatch,
    StoreUnavailable,
    failure_of,
)
from services.runtime.config import ConfigFaults, decode, overlay
from services.sink.config import SinkConfig


def answered(code: int, name: str) -> DatabaseError:
    return DatabaseError("the server's sentence, with 'a value' in it", code=code, name=name)


@pytest.mark.parametrize(
    ("error", "kind", "text", "code"),
    [
        (answered(252, "TOO_MANY_PARTS"), StoreUnavailable, "TOO_MANY_PARTS (code 252)", 252),
        (answered(241, "MEMORY_LIMIT_EXCEEDED"), StoreUnavailable, "MEMORY_LIMIT_EXCEEDED (code 241)", 241),
        (answered(242, "TABLE_IS_READ_ONLY"), StoreUnavailable, "TABLE_IS_READ_ONLY (code 242)", 242),
        (answered(202, "TOO_MANY_SIMULTANEOUS_QUERIES"), StoreUnavailable, None, 202),
        (answered(159, "TIMEOUT_EXCEEDED"), StoreUnavailable, None, 159),
        (answered(210, "NETWORK_ERROR"), StoreUnavailable, None, 210),
        (answered(999, "KEEPER_EXCEPTION"), StoreUnavailable, None, 999),
        (answered(99_999, "A_CODE_OF_ANOTHER_YEAR"), StoreUnavailable, None, 99_999),
        (OperationalError("Network Error: refused"), StoreUnavailable, "Network Error: refused", None),
        (DatabaseError("HTTP driver received HTTP status 502"), StoreUnavailable, None, None),
        (TimeoutError(), StoreUnavailable, "no answer in time", None),
        (ConnectionRefusedError("refused"), StoreUnavailable, "refused", None),
        (answered(60, "UNKNOWN_TABLE"), StoreMismatch, "UNKNOWN_TABLE (code 60)", 60),
        (answered(16, "NO_SUCH_COLUMN_IN_TABLE"), StoreMismatch, None, 16),
        (answered(516, "AUTHENTICATION_FAILED"), StoreMismatch, None, 516),
        (ProgrammingError("unknown setting x"), StoreMismatch, "the client refused: unknown setting x", None),
        (answered(321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE"), RowsRefused, None, 321),
        (DataError("Unable to create native array: 'a value'"), RowsRefused, None, None),
    ],
)
def test_a_failure_says_what_to_do_and_quotes_no_row(error, kind, text, code):
    failure = failure_of(error)
    assert type(failure) is kind
    assert failure.code == code
    assert text is None or str(failure) == text
    assert "a value'" not in str(failure)


def test_no_code_asks_for_two_things():
    assert set() == MISMATCH_CODES & REFUSED_CODES


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({"url": "http://127.0.0.1:8123"}, []),
        ({"url": "https://ch.example:8443/path"}, []),
        ({"url": "127.0.0.1:8123"}, ["clickhouse.url: must be http://host:port or https://host:port"]),
        ({"url": "http://host:x"}, ["clickhouse.url: is not an address"]),
        ({"url": "http://me:secret@host:1"}, ["clickhouse.url: must not hold credentials"]),
        ({"url": "http://host:1/?a=b"}, ["clickhouse.url: must end with its path"]),
        ({"connect_timeout_ms": 0}, ["clickhouse.connect_timeout_ms: must be above 0"]),
        ({"answer_timeout_ms": 10}, ["clickhouse.answer_timeout_ms: must be at least connect_timeout_ms"]),
    ],
)
def test_an_address_that_cannot_work_or_holds_a_secret_is_refused(settings, faults):
    try:
        decode({"clickhouse": settings}, {"clickhouse": ClickHouseConfig})
        found = ()
    except ConfigFaults as exc:
        found = exc.faults
    assert len(found) == len(faults)
    assert all(text.startswith(fault) for text, fault in zip(found, faults, strict=True))
    assert not any("secret" in text for text in found)


def test_the_environment_says_where_clickhouse_is():
    environ = {
        "CLICKHOUSE_URL": "http://ch:8123",
        "CLICKHOUSE_USER": "sink",
        "CLICKHOUSE_PASSWORD": "hush",
    }
    decoded = decode(overlay({}, environ, ENVIRONMENT), {"clickhouse": ClickHouseConfig})
    assert decoded == {"clickhouse": ClickHouseConfig(url="http://ch:8123", user="sink", password="hush")}


def test_every_misfit_of_the_sinks_settings_is_told_at_once():
    settings = {
        "group_id": "",
        "block_rows_max": 0,
        "block_wait_ms_max": -1,
        "retry_wait_ms_max": 0,
        "hourly_every_s": 0,
        "port": 70_000,
    }
    with pytest.raises(ConfigFaults) as caught:
        decode({"sink": settings}, {"sink": SinkConfig})
    assert caught.value.faults == (
        "sink.group_id: must not be empty",
        "sink.block_rows_max: must be from 1 to 1000000",
        "sink.block_wait_ms_max: must not be below 0",
        "sink.retry_wait_ms_max: must be above 0",
        "sink.hourly_every_s: must be above 0",
        "sink.port: must be from 0 to 65535",
    )
