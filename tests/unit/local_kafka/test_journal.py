import pytest

from services.local.kafka.journal import SLACK_LINES, Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.journal"


def test_changes_are_there_after_reopening(path):
    journal = Journal(path, int)
    journal.update({"a": 1, "b": 2})
    journal.update({"a": None, "c": 3})

    assert Journal(path, int).entries() == {"b": 2, "c": 3}


@pytest.mark.parametrize("tail", [b'["b",', b"\xff\xfe", b"[1,2]", b'["b",2]'])
def test_a_torn_last_line_is_dropped(path, tail):
    Journal(path, int).update({"a": 1})
    with path.open("ab") as file:
        file.write(tail)

    entries = Journal(path, int).entries()

    assert entries["a"] == 1
    assert entries.get("b", 2) == 2


def test_the_file_is_written_anew_before_it_grows_out_of_hand(path):
    journal = Journal(path, int)

    for number in range(3 * SLACK_LINES):
        journal.update({"a": number})

    assert len(path.read_bytes().splitlines()) <= SLACK_LINES + 3
    journal.update({"b": 1})
    assert Journal(path, int).entries() == {"a": 3 * SLACK_LINES - 1, "b": 1}
