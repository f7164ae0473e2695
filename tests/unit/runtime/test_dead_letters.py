"""What becomes of a record that no stage can use: all of it is kept, under its own key."""

from datetime import UTC, datetime

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.runtime.dead_letters import ERROR_CHARS_MAX, dead_letter
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord

KEY, VALUE = b"\x00key\xff", b"{not JSON \xff\xfe"
HEADERS = (("ce_id", b"1"), ("ce_id", b"twice"), ("binary", b"\x80"))
SOURCE = ConsumedRecord("gateway.usage.v1", 7, 123, 1_795_000_000_000, KEY, VALUE, HEADERS)


def test_a_dead_letter_holds_the_whole_record_its_place_and_the_reason():
    before = datetime.now(UTC)
    record = dead_letter("rating", DeadRecord(SOURCE, "Undecodable", "at $.tokens"))
    letter = codec.decode(DeadLetter, record.value)
    assert before <= letter.dead_at <= datetime.now(UTC)
    assert letter == DeadLetter(
        topic="gateway.usage.v1",
        partition=7,
        offset=123,
        stage="rating",
        error_class="Undecodable",
        error="at $.tokens",
        dead_at=letter.dead_at,
        key=KEY,
        value=VALUE,
        headers=HEADERS,
    )
    place = b"gateway.usage.v1/7/123"
    assert record == OutgoingRecord(
        "gateway.usage.v1.dlq",
        KEY,
        record.value,
        (
            ("ce_specversion", b"1.0"),
            ("ce_id", place),
            ("ce_type", b"tollhouse.dead_letter.v1"),
            ("ce_source", b"/stages/rating"),
            ("ce_time", letter.dead_at.isoformat().encode()),
            ("ce_subject", place),
            ("ce_dataschema", b"urn:tollhouse:schema:dead_letter:v1"),
            ("content-type", b"application/json"),
        ),
    )


def test_a_tombstone_and_an_empty_value_stay_what_they_were():
    for value in (None, b""):
        record = dead_letter("rating", DeadRecord(SOURCE._replace(key=None, value=value), "E", ""))
        letter = codec.decode(DeadLetter, record.value)
        assert (record.key, letter.key, letter.value) == (None, None, value)


def test_a_long_error_is_cut_but_no_byte_of_the_record():
    value = bytes(range(256)) * 100
    record = dead_letter("rating", DeadRecord(SOURCE._replace(value=value), "E", "x" * 10_000))
    letter = codec.decode(DeadLetter, record.value)
    assert (letter.error, letter.value) == ("x" * ERROR_CHARS_MAX, value)
