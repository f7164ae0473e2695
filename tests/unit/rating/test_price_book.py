"""How a price book is read: dates, faults, and what its label says."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.rating.book.file import load, parse
from services.rating.errors import PriceBookFaults
from tests.unit.rating.cases import BOOK, TODAY, day

HEAD = """
name: contract
book_seq: 3
modifiers:
  service_tier: {standard: "1", batch: "0.5"}
  inference_geo: {us: "1.1"}
  source: a contract
  checked: 2026-11-22
free:
  operations: [models]
  endpoints: [/v1/organizations]
  source: a contract
  checked: 2026-11-22
requests:
  - {effective_from: 2026-01-01, web_search: "10", web_fetch: "0", source: a contract, checked: 2026-11-22}
models:
"""
PRICES = 'input: "1", output: "5", cache_read: "0.1", cache_write_5m: "1.25", cache_write_1h: "2"'
KNOWN = "source: a contract, checked: 2026-11-22"


def row(dates="effective_from: 2026-01-01", prices=PRICES, more=""):
    return f"      - {{{dates}, {prices}, {KNOWN}{more}}}\n"


def book(models=None, head=HEAD):
    return parse((head + (models or "  claude-one:\n    prices:\n" + row())).encode(), "book.yaml")


def faults(models=None, head=HEAD):
    with pytest.raises(PriceBookFaults) as caught:
        book(models, head)
    return list(caught.value.faults)


def test_the_built_in_book_is_one_that_can_be_used():
    assert (BOOK.name, BOOK.book_seq) == ("anthropic-list", 2000)
    assert BOOK.label.startswith("anthropic-list-")
    assert len(BOOK.label) == len("anthropic-list-") + 12


def test_prices_are_per_token_and_per_request():
    one = book().find("claude-one", TODAY)
    assert one is not None
    assert one.standard[0].rates == (
        Decimal("0.000001"),
        Decimal("0.000005"),
        Decimal("0.0000001"),
        Decimal("0.00000125"),
        Decimal("0.000002"),
    )
    requests = book().find_requests(TODAY)
    assert requests is not None
    assert (requests.web_search, requests.web_fetch) == (Decimal("0.01"), Decimal(0))


def test_a_row_ends_where_the_next_begins_or_where_it_says():
    second = PRICES.replace('"5"', '"6"')
    third = PRICES.replace('"5"', '"7"')
    read = book(
        "  claude-one:\n    prices:\n"
        + row("effective_from: 2026-05-01, effective_to: 2026-06-01", third)
        + row("effective_from: 2026-01-01")
        + row("effective_from: 2026-02-01, effective_to: 2026-04-01", second)
    )

    def output_at(moment):
        prices = read.find("claude-one", day(moment))
        return None if prices is None else str(prices.standard[0].rates.output * 1_000_000)

    assert {
        moment: output_at(moment)
        for moment in (
            "2025-12-31T23:59:59.999999",
            "2026-01-01",
            "2026-01-31T23:59:59.999999",
            "2026-02-01",
            "2026-03-31",
            "2026-04-01",
            "2026-05-01",
            "2026-06-01",
        )
    } == {
        "2025-12-31T23:59:59.999999": None,
        "2026-01-01": "5.000000",
        "2026-01-31T23:59:59.999999": "5.000000",
        "2026-02-01": "6.000000",
        "2026-03-31": "6.000000",
        "2026-04-01": None,
        "2026-05-01": "7.000000",
        "2026-06-01": None,
    }


def test_fast_mode_comes_and_goes_within_a_row():
    read = book(
        "  claude-one:\n    prices:\n"
        + row()
        + "    fast:\n"
        + row("effective_from: 2026-03-01, effective_to: 2026-04-01")
    )
    found = {month: read.find("claude-one", datetime(2026, month, 1, tzinfo=UTC)) for month in (2, 3, 4)}
    assert {month: bool(prices and prices.fast) for month, prices in found.items()} == {
        2: False,
        3: True,
        4: False,
    }


def test_the_label_tells_prices_apart_and_nothing_else():
    same = book().label
    assert book(head=HEAD.replace("a contract", "another source").replace("11-22", "11-23")).label == same
    assert book(head=HEAD.replace("book_seq: 3", "book_seq: 4")).label == same
    assert book(head=HEAD.replace('"10"', '"10.00"')).label == same
    assert book(head=HEAD.replace('"10"', '"11"')).label != same
    assert book(head=HEAD.replace("name: contract", "name: list")).label == same.replace("contract", "list")


def test_the_label_of_the_built_in_book_is_the_same_in_every_process():
    assert load().label == BOOK.label


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            "  claude-one:\n    prices:\n" + row() + row(),
            ["models.claude-one.prices: two rows overlap on 2026-01-01"],
        ),
        (
            "  claude-one:\n    prices:\n"
            + row("effective_from: 2026-01-01, effective_to: 2026-03-01")
            + row("effective_from: 2026-02-01"),
            ["models.claude-one.prices: two rows overlap on 2026-02-01"],
        ),
        (
            "  claude-one:\n    prices:\n" + row("effective_from: 2026-02-01, effective_to: 2026-02-01"),
            ["models.claude-one.prices[0].effective_to: must lie behind effective_from"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('output: "5", ', "")),
            ["models.claude-one.prices[0].output: is required"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('"5"', "5.5")),
            ["models.claude-one.prices[0].output: Expected `str`, got `float`"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('"5"', '"0"')),
            ["models.claude-one.prices[0].output: must be above 0"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('"5"', '"-5"')),
            ["models.claude-one.prices[0].output: '-5' is not a plain decimal number"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('"5"', '"5.00001"')),
            [
                "models.claude-one.prices[0].output: 5.00001 has more than 4 decimals; "
                "costs keep 18 and never round"
            ],
        ),
        (
            "  claude-one:\n    prices:\n" + row(more=", colour: blue"),
            ["models.claude-one.prices[0].colour: unknown setting"],
        ),
        (
            "  claude-one:\n    prices:\n" + row(more=f", above: [{{prompt_tokens: 0, {PRICES}}}]"),
            [
                "models.claude-one.prices[0].above[0].prompt_tokens: must be above 0",
            ],
        ),
        (
            "  claude-one:\n    prices:\n"
            + row(more=f", above: [{{prompt_tokens: 9, {PRICES}}}, {{prompt_tokens: 9, {PRICES}}}]"),
            ["models.claude-one.prices[0].above[1].prompt_tokens: must rise from tier to tier"],
        ),
        ("  claude-one:\n    prices: []\n", ["models.claude-one.prices: must not be empty"]),
        ("  claude-one:\n    aliases: [x]\n", ["models.claude-one.prices: is required"]),
        (
            "  claude-one:\n    aliases: [claude-two]\n    prices:\n"
            + row()
            + "  claude-two:\n    prices:\n"
            + row(),
            ["models.claude-one.aliases: claude-two already names claude-two"],
        ),
        ("  claude-one: 5\n", ["models.claude-one: must be a mapping"]),
        ("  {}\n", ["book.models: must not be empty"]),
    ],
)
def test_a_fault_is_named_with_its_place(models, expected):
    assert faults(models) == expected


def test_all_faults_are_reported_together():
    head = (
        HEAD.replace("book_seq: 3", "book_seq: 0")
        .replace('batch: "0.5"', 'batch: "half"')
        .replace("operations: [models]", "operations: [messages]")
        .replace('web_search: "10"', 'web_serach: "10"')
    )
    models = "  claude-one:\n    prices:\n" + row(prices=PRICES.replace('"5"', '"x"').replace('"2"', '"y"'))
    assert faults(models, head) == [
        "book.modifiers.service_tier.batch: 'half' is not a plain decimal number",
        "book.free.operations: messages is not free as a whole",
        "book.book_seq: must lie between 1 and 4294966",
        "models.claude-one.prices[0].output: 'x' is not a plain decimal number",
        "models.claude-one.prices[0].cache_write_1h: 'y' is not a plain decimal number",
        "requests[0].web_serach: unknown setting",
        "requests[0].web_search: is required",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("models: {a: 1, a: 2}", "a stands twice"),
        ("models: [", "is not YAML"),
        ("- a\n- b", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("? [a, b]\n: c", "is not YAML"),
    ],
)
def test_what_is_no_book_is_refused(text, fault):
    with pytest.raises(PriceBookFaults) as caught:
        parse(text.encode(), "book.yaml")
    assert fault in str(caught.value)


def test_a_replacement_is_read_from_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + "  claude-one:\n    prices:\n" + row())
    assert load(str(path)) == book()
    with pytest.raises(PriceBookFaults) as caught:
        load(str(tmp_path / "absent.yaml"))
    assert caught.value.faults == ("cannot be read: No such file or directory",)
