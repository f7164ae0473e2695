"""How pieces of a streamed result, each complete in itself, become one result."""

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.clickhouse.joining import Joining, joining_of


def joined(joining: Joining, pieces):
    first, *later = pieces
    return b"".join([joining.first(first), *map(joining.next, later), joining.end])


@pytest.mark.parametrize(
    ("result_format", "pieces", "result"),
    [
        ("Native", [b"\x01a", b"\x01b"], b"\x01a\x01b"),
        ("tsv", [b"1\n", b"2\n"], b"1\n2\n"),
        ("TSVWithNames", [b"a\n1\n", b"a\n2\n"], b"a\n1\n2\n"),
        ("TSVWithNamesAndTypes", [b"a\nInt8\n1\n", b"a\nInt8\n2\n"], b"a\nInt8\n1\n2\n"),
        ("CSVWithNames", [b'"a\nb","""",c\n1\n', b'"a\nb","""",c\n2\n'], b'"a\nb","""",c\n1\n2\n'),
        ("JSONCompactEachRowWithNames", [b'["a"]\n[1]\n', b'["a"]\n[2]\n'], b'["a"]\n[1]\n[2]\n'),
    ],
)
def test_a_header_is_kept_once(result_format, pieces, result):
    joining = joining_of(result_format, b"SELECT 1", ())
    assert joined(joining, pieces) == result


@given(st.lists(st.lists(st.integers(0, 2**63 - 1)), min_size=1, max_size=5))
def test_arrow_streams_become_one_stream(blocks):
    schema = pyarrow.schema([("n", pyarrow.int64())])
    pieces = []
    for block in blocks:
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pyarrow.record_batch([pyarrow.array(block, pyarrow.int64())], schema))
        pieces.append(sink.getvalue().to_pybytes())
    whole = joined(joining_of("ArrowStream", b"SELECT 1", ()), pieces)
    with pyarrow.ipc.open_stream(whole) as reader:
        assert reader.read_all().to_pydict() == {"n": [number for block in blocks for number in block]}


@pytest.mark.parametrize(
    ("result_format", "sql", "settings"),
    [
        ("JSON", b"SELECT 1", ()),
        ("Parquet", b"SELECT 1", ()),
        ("Arrow", b"SELECT 1", ()),
        ("TSV", b"SELECT count() FROM t GROUP BY a with totals", ()),
        ("CSV", b"SELECT 1 SETTINGS extremes = 1", ()),
        ("CSV", b"SELECT 1", ("extremes",)),
        ("JSONEachRow", b"SELECT 1", ("output_format_json_array_of_rows",)),
    ],
)
def test_what_has_more_than_rows_in_it_is_held_whole(result_format, sql, settings):
    assert joining_of(result_format, sql, settings) is None
