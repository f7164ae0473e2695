"""How migration files are read and cut into statements."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import StartRefused
from services.runtime.tables import MIGRATIONS, read_migrations, split_statements

# A file that landed is never edited: databases out there have been told its hash. Add lines, change none.
LANDED = {
    "0001_usage.sql": "af19d33ad1859f5cc0d09c30bfcd34cca2c548ad8dad8395d48d085bc6718dc1",
    "0002_requests.sql": "7cb374565d064ceac1afac1976ec2c9ee12c4895abc94ab17f45ca40bca66dbf",
    "0003_responses.sql": "230fbe49e8c2aeb2ca6802ad2341e619c047fa8304df5cc23b79f670b620b536",
    "0004_edges.sql": "42519ac12a7300b360cb02871f19b1278138e72a909626ba7312bce566b59fe9",
    "0005_attribution.sql": "034ae7755ad72e76d583f01be2c87dd6b95ae4e9d30f8ea62274f02ffaa8bf8b",
    "0006_cost_ledger.sql": "1d507c08b574559a4507a4704d7840723a576cc4051227c2f9e43f9e96746afc",
    "0007_dead_letters.sql": "8ca1abaef76fa0b6045a3dbc070a52dba5ce186ac525800875d6c4e5d1e7ec15",
    "0008_completeness.sql": "5874c05e0ebd6b649687ab51d74496a075c7c479d644a09572c2baddabb3f281",
    "0009_usage_hourly.sql": "25d30d8da1d858b0513cfd8698b00c9d5eec16bdfc63be5142c9ab1660dafedf",
    "0010_batches.sql": "bba0d673c01c3df9bf2b541685561b21b5dca1cbcabbe614fd869c405f9f945a",
}


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", ()),
        (" ;; \n;", ()),
        ("-- only a word; no statement\n/* nor; here */", ()),
        ("SELECT 1", ("SELECT 1",)),
        ("SELECT 1; SELECT 2;\n", ("SELECT 1", "SELECT 2")),
        ("SELECT ';', 'it''s; \\'so;', \"a;b\", `c;d`; SELECT 2", None),
        ("SELECT 1 -- first; not second\n; SELECT 2", ("SELECT 1", "SELECT 2")),
        ("SELECT /* a;\n b */ 1; SELECT 2", ("SELECT   1", "SELECT 2")),
        ("SELECT '-- no comment;', 5 - 3 / 2;", ("SELECT '-- no comment;', 5 - 3 / 2",)),
        ("SELECT 'unfinished; -- text", ("SELECT 'unfinished; -- text",)),
        ("SELECT 1 /* unfinished; comment", ("SELECT 1",)),
    ],
)
def test_only_a_semicolon_that_stands_free_ends_a_statement(sql, statements):
    if statements is None:
        statements = ("SELECT ';', 'it''s; \\'so;', \"a;b\", `c;d`", "SELECT 2")
    assert split_statements(sql) == statements


PLAIN = st.text("abc 12(),=\n", min_size=1).map(lambda text: "x" + text)
QUOTED = st.builds(
    lambda mark, text: f"{mark}{text}{mark}",
    st.sampled_from("'\"`"),
    st.text("ab;- /*\n"),
)
COMMENT = st.one_of(
    st.text("ab;'\"` /*").map(lambda text: f"--{text}\n"),
    st.text("ab;'\"`- \n").map(lambda text: f"/*{text}*/"),
)


@given(st.lists(st.lists(st.tuples(st.one_of(PLAIN, QUOTED), st.booleans(), COMMENT), min_size=1)))
def test_joined_statements_come_apart_where_they_were_joined(drawn):
    bare = ["".join(piece for piece, _, _ in statement) for statement in drawn]
    noted = [
        "".join(comment + piece if has_comment else piece for piece, has_comment, comment in statement)
        for statement in drawn
    ]
    assert split_statements(";".join(bare)) == tuple(text.strip() for text in bare)
    found = split_statements(";".join(noted))
    assert ["".join(text.split()) for text in found] == ["".join(text.split()) for text in bare]


def test_the_files_of_the_package_count_from_one_and_say_why_they_are():
    migrations = read_migrations(MIGRATIONS)
    assert [migration.number for migration in migrations] == list(range(1, len(migrations) + 1))
    for migration in migrations:
        assert MIGRATIONS.joinpath(migration.name).read_text().startswith("-- ")


def test_no_file_that_landed_was_edited():
    assert {migration.name: migration.sha256 for migration in read_migrations(MIGRATIONS)} == LANDED


def test_every_statement_of_the_package_may_be_run_again():
    for migration in read_migrations(MIGRATIONS):
        for statement in migration.statements:
            assert re.match(
                r"CREATE OR REPLACE VIEW |CREATE (DATABASE|TABLE|VIEW) IF NOT EXISTS |ALTER TABLE ", statement
            ), f"{migration.name}: {statement[:60]}"
            changes = re.findall(
                r"\b(?:ADD|DROP|MODIFY) (?:COLUMN|INDEX)\b(?: IF (?:NOT )?EXISTS)?", statement
            )
            assert all(change.endswith("EXISTS") for change in changes), f"{migration.name}: {changes}"


def test_line_ends_do_not_change_a_files_hash(tmp_path: Path):
    for folder, text in (("unix", b"-- why\nSELECT 1;\n"), ("windows", b"-- why\r\nSELECT 1;\r\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001_one.sql").write_bytes(text)
    assert read_migrations(tmp_path / "unix") == read_migrations(tmp_path / "windows")


@pytest.mark.parametrize("names", [["0002_two.sql"], ["0001_a.sql", "0001_b.sql"], ["0001-a.sql"]])
def test_a_gap_a_double_number_or_an_odd_name_is_refused(tmp_path: Path, names):
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(StartRefused, match=r"should be number 000[12]: NNNN_name\.sql\.$"):
        read_migrations(tmp_path)
