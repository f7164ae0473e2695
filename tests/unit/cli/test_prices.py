"""`tollhouse prices`: what the book says, as a table and as JSON, and all that is wrong with it."""

import json

import pytest
from click.testing import CliRunner

from services.cli.prices import prices
from services.rating.book.file import load

BOOK = load()
KNOWN = "source: contract 7, checked: 2026-11-22"
PRICES = 'input: "1", output: "5", cache_read: "0.1", cache_write_5m: "1.25", cache_write_1h: "2"'
DISCOUNT = (
    f'discounts:\n  - {{models: [claude-opus-*], factor: "0.8", effective_from: 2026-11-01, {KNOWN}}}\n'
)
GAP = (
    "models:\n  claude-opus-6:\n    prices:\n"
    f"      - {{effective_from: 2026-10-01, effective_to: 2026-10-05, {PRICES}, {KNOWN}}}\n"
    f"      - {{effective_from: 2026-11-01, {PRICES}, {KNOWN}}}\n"
)


def run(*arguments, overrides=None, tmp_path=None):
    """Run `tollhouse prices` with nothing configured but the overrides: exit code, output, standard error."""
    path = None
    if overrides is not None:
        (tmp_path / "overrides.yaml").write_text(overrides)
        path = tmp_path / "tollhouse.yaml"
        path.write_text(f"rating: {{overrides: {tmp_path / 'overrides.yaml'}}}\n")
    clean = {"TOLLHOUSE_PRICES": None, "TOLLHOUSE_PRICE_OVERRIDES": None}
    result = CliRunner().invoke(prices, arguments, obj=path, env=clean)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def cells(line):
    return [cell for cell in line.split("  ") if cell]


def test_all_models_stand_in_one_table_of_a_day():
    code, out, err = run("show", "--at", "2026-11-22")
    heads, *rows = [[cell.strip() for cell in cells(line)] for line in out.split("\n\n")[0].splitlines()]
    assert (code, err) == (0, "")
    assert heads == [
        *("model", "mode", "input", "output", "cache_read", "cache_write_5m", "cache_write_1h"),
        *("discount", "prompt", "from", "to", "source"),
    ]
    source = "platform.claude.com/docs/en/about-claude/pricing; genai-prices 0.2.3"
    assert [row for row in rows if row[0] == "claude-haiku-5-5"] == [
        [
            *("claude-haiku-5-5", "standard", "0.1", "0.5", "0.01", "0.125", "0.2"),
            *("-", "any", "2026-10-07", "-", source),
        ],
        [
            *("claude-haiku-5-5", "standard", "0.5", "2.5", "0.05", "0.625", "1"),
            *("-", "> 100000", "2026-10-07", "-", source),
        ],
    ]
    assert {row[0] for row in rows} == set(BOOK.models)


def test_the_table_says_what_else_decides_a_cost():
    _, out, _ = run("show", "--at", "2026-11-22")
    footer = out.split("\n\n")[1].splitlines()
    assert footer[1] == "times service tier: batch 0.5, priority 1, standard 1"
    assert footer[2].startswith(
        "times region: global 1, not_available 1, us 1.1; of 15 models: claude-fable-5,"
    )
    assert footer[3:] == ["web_search: 10", "web_fetch: 0", f"{BOOK.label}, book_seq 2000"]


def test_one_model_shows_every_price_it_ever_had():
    code, out, _ = run("show", "claude-sonnet-5-5")
    rows = [cells(line) for line in out.splitlines() if "cache_read" in line]
    assert code == 0
    assert [[cell.strip() for cell in row][3:9] for row in rows] == [
        ["0.2", "-", "any", "2026-09-28", "2026-10-07", "2026-11-22"],
        ["0.1", "-", "any", "2026-10-07", "-", "2026-11-22"],
    ]


def test_a_change_of_fast_mode_does_not_cut_the_standard_prices():
    _, out, _ = run("show", "claude-opus-4-8", "--json")
    spans = {
        (each["mode"], each["effective_from"], each["effective_to"])
        for each in map(json.loads, out.splitlines())
    }
    assert spans == {("standard", "2024-01-01", None), ("fast", "2024-01-01", "2026-12-01")}


def test_json_has_one_object_a_price_with_its_provenance():
    code, out, _ = run("show", "claude-haiku-4-5-20251001", "--at", "2026-11-22", "--json")
    first, *rest = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert first == {
        "model": "claude-haiku-4-5",
        "mode": "standard",
        "dimension": "input",
        "price_usd": "1",
        "above_prompt_tokens": 0,
        "discount": "1",
        "effective_from": "2025-10-01",
        "effective_to": None,
        "source": "platform.claude.com/docs/en/about-claude/pricing; genai-prices 0.2.3",
        "checked": "2026-11-22",
    }
    assert [each["dimension"] for each in rest] == [
        "output",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
    ]


def test_overrides_show_with_their_discount_and_who_granted_it(tmp_path):
    _, out, _ = run(
        "show",
        "claude-opus-5-5",
        "--at",
        "2026-11-22",
        overrides="edition: 1\n" + DISCOUNT,
        tmp_path=tmp_path,
    )
    rows = [line for line in out.splitlines() if line.startswith("claude-opus-5-5")]
    assert rows
    assert all("x 0.8" in row and row.endswith("; discount: contract 7") for row in rows)
    assert out.splitlines()[-1].endswith("book_seq 2001")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "claude-opus-9"), "tollhouse: no price is known for claude-opus-9\n"),
        (
            ("show", "claude-haiku-5-5", "--at", "2026-10-06"),
            "tollhouse: claude-haiku-5-5 has no price at 2026-10-06\n",
        ),
    ],
)
def test_what_has_no_price_is_said_in_one_sentence(arguments, sentence):
    assert run(*arguments) == (2, "", sentence)


def test_a_good_book_passes_the_check():
    assert run("check") == (
        0,
        f"{BOOK.label}, book_seq 2000: {len(BOOK.models)} models under {len(BOOK.names)} names\n"
        f"book_hash {BOOK.content_hash}\n"
        "the price book has no faults\n",
        "",
    )


def test_the_check_names_every_fault_at_once(tmp_path):
    broken = f"{DISCOUNT.replace('0.8', '8')}colour: blue\n{GAP.replace('2026-10-05', '2026-11-05')}"
    code, out, err = run("check", overrides=broken, tmp_path=tmp_path)
    assert (code, err) == (1, "")
    assert out.splitlines()[1:] == [
        "  - overrides.colour: unknown setting",
        "  - overrides.edition: is required",
        "  - models.claude-opus-6.prices: two rows overlap on 2026-11-01",
        '  - discounts[0].factor: must lie between 0 and 1: "0.85" takes 15 % off',
    ]


def test_the_check_names_every_oversight_of_a_book_that_can_be_used(tmp_path):
    code, out, err = run(
        "check", overrides="edition: 3\n" + DISCOUNT + DISCOUNT[11:] + GAP, tmp_path=tmp_path
    )
    assert (code, err) == (1, "")
    assert "book_seq 2003" in out
    assert out.splitlines()[2:] == [
        "the price book can be used, but has oversights:",
        "  - models.claude-opus-6.prices: nothing has a price from 2026-10-05 until 2026-11-01",
        "  - models.claude-opus-6.is_geo_priced: say whether a region costs more; left out, none does",
        "  - discounts[1]: never counts, as an earlier one holds for the same models",
    ]


def test_show_refuses_a_book_with_faults(tmp_path):
    code, out, err = run("show", overrides="edition: 1\ncolour: blue\n", tmp_path=tmp_path)
    assert (code, out) == (2, "")
    assert "overrides.colour: unknown setting" in err


@pytest.mark.parametrize("command", ["show", "check"])
def test_every_command_explains_itself(command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert out.splitlines()[2].strip()
