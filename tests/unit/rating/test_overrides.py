"""What an operator may lay over the book: prices, discounts, models and names, dated and exact."""

from decimal import Decimal
from pathlib import Path

import pytest

from services.rating.book.file import load, read
from services.rating.errors import PriceBookFaults
from services.rating.pricing import judge, rate
from tests.unit.rating.cases import BOOK, bill, day, lines, usage

EXAMPLE = Path(__file__).parents[3] / "deploy" / "price-overrides.example.yaml"
KNOWN = "source: contract 7, checked: 2026-11-22"
PRICES = 'input: "1", output: "5", cache_read: "0.1", cache_write_5m: "1.25", cache_write_1h: "2"'
LONG_PRICES = PRICES.replace('"5"', '"9"')
MILLION = {"input_tokens": 1_000_000}


def price(dates="effective_from: 2026-11-01", prices=PRICES, more=""):
    return f"      - {{{dates}, {prices}, {KNOWN}{more}}}\n"


def discount(models="[claude-*]", factor="0.8", dates="effective_from: 2026-01-01"):
    return f'  - {{models: {models}, factor: "{factor}", {dates}, {KNOWN}}}\n'


@pytest.fixture
def overridden(tmp_path):
    path = tmp_path / "overrides.yaml"

    def laid(text, edition=1):
        path.write_text((f"edition: {edition}\n" if edition else "") + text)
        return read("", str(path))

    return laid


@pytest.fixture
def book(overridden):
    return lambda text, edition=1: overridden(text, edition).book


@pytest.fixture
def faults(overridden):
    def named(text, edition=1):
        with pytest.raises(PriceBookFaults) as caught:
            overridden(text, edition)
        return list(caught.value.faults)

    return named


def cost_at(book, at, model="claude-opus-5-5", **changes):
    return bill(rate(usage(model, started_at=day(at), **{"tokens": MILLION, **changes}), book))


def test_a_price_replaces_the_books_from_its_day_on(book):
    own = book("models:\n  claude-opus-5-5:\n    prices:\n" + price())
    assert cost_at(own, "2026-10-31T23:59:59.999999") == ("priced", Decimal(4))
    assert cost_at(own, "2026-11-01") == ("priced", Decimal(1))
    assert cost_at(own, "2027-11-01") == ("priced", Decimal(1))


def test_a_price_that_ends_gives_the_time_after_it_back_to_the_book(book):
    own = book(
        "models:\n  claude-sonnet-5-5:\n    prices:\n"
        + price("effective_from: 2026-10-01, effective_to: 2026-10-05")
    )
    reads = {"tokens": {"cache_read_tokens": 1_000_000}}
    assert [
        str(cost_at(own, at, "claude-sonnet-5-5", **reads)[1])
        for at in ("2026-09-30", "2026-10-01", "2026-10-04", "2026-10-05", "2026-10-06", "2026-10-07")
    ] == ["0.2", "0.1", "0.1", "0.2", "0.2", "0.1"]


def test_standard_prices_leave_fast_mode_as_it_is(book):
    own = book("models:\n  claude-opus-5-5:\n    prices:\n" + price())
    assert cost_at(own, "2026-11-22", speed="fast") == ("priced", Decimal(8))
    own = book("models:\n  claude-opus-5-5:\n    fast:\n" + price())
    assert cost_at(own, "2026-11-22", speed="fast") == ("priced", Decimal(1))
    assert cost_at(own, "2026-11-22") == ("priced", Decimal(4))


def test_a_whole_model_with_its_names(book):
    own = book(
        "models:\n  claude-opus-6:\n    aliases: [claude-opus-latest]\n    is_geo_priced: true\n    prices:\n"
        + price(more=f", above: [{{prompt_tokens: 100, {LONG_PRICES}}}]")
    )
    for name in ("claude-opus-6", "claude-opus-latest", "claude-opus-6-20261201"):
        assert cost_at(own, "2026-11-22", name, inference_geo="us") == ("priced", Decimal("1.1"))
    long = {"tokens": {"input_tokens": 101, "output_tokens": 1_000_000}}
    # 101 x 1 = 0.000101; 1,000,000 x 9
    assert cost_at(own, "2026-11-22", "claude-opus-6", **long) == ("priced", Decimal("9.000101"))
    assert BOOK.find("claude-opus-6", day("2026-11-22")) is None


def test_another_name_for_a_model_of_the_book(book):
    own = book("models:\n  claude-opus-5-5:\n    aliases: [house-model]\n")
    assert cost_at(own, "2026-11-22", "house-model") == ("priced", Decimal(4))


def test_a_discount_shows_in_the_multiplier_of_every_token_line_and_of_no_search(book):
    own = book("discounts:\n" + discount("[claude-opus-*]"))
    counts = {"input_tokens": 1000, "cache_write_1h_tokens": 10, "web_search_requests": 1}
    fact = usage("claude-opus-5-5", tokens=counts, inference_geo="us", service_tier="batch")
    assert lines(rate(fact, own)) == [
        # 0.5 x 1.1 x 0.8 = 0.44
        ("claude-opus-5-5", "input", 1000, "4", "0.44", "0.00176"),
        ("claude-opus-5-5", "cache_write_1h", 10, "8", "0.44", "0.0000352"),
        ("claude-opus-5-5", "web_search", 1, "10000", "1", "0.01"),
    ]
    assert cost_at(own, "2026-11-22", "claude-sonnet-5-5") == ("priced", Decimal(2))


def test_a_discount_has_its_days_and_the_first_that_holds_counts(book):
    own = book(
        "discounts:\n"
        + discount("[claude-opus-5-5]", "0.5", "effective_from: 2026-11-01, effective_to: 2026-11-10")
        + discount("['claude-opus-*', 'claude-sonnet-*']", "0.9", "effective_from: 2026-11-05")
    )
    assert [
        str(cost_at(own, at)[1])
        for at in ("2026-10-31", "2026-11-01", "2026-11-05", "2026-11-09", "2026-11-10")
    ] == ["4", "2", "2", "2", "3.6"]
    assert cost_at(own, "2026-11-10", "claude-sonnet-5-5") == ("priced", Decimal("1.8"))
    assert cost_at(own, "2026-11-10", "claude-haiku-4-5") == ("priced", Decimal(1))


def test_a_discount_reaches_the_operators_own_prices_and_fast_mode(book):
    own = book(
        "models:\n  claude-opus-5-5:\n    prices:\n"
        + price()
        + "discounts:\n"
        + discount("[claude-opus-5-5]")
    )
    assert cost_at(own, "2026-11-22") == ("priced", Decimal("0.8"))
    assert cost_at(own, "2026-11-22", speed="fast") == ("priced", Decimal("6.4"))


def test_a_region_a_search_price_and_a_free_endpoint(book):
    own = book(
        f'modifiers: {{inference_geo: {{eu: "1.2"}}, {KNOWN}}}\n'
        f"free: {{endpoints: [/v1/sessions], {KNOWN}}}\n"
        f'requests:\n  - {{effective_from: 2026-11-01, web_search: "8", web_fetch: "0", {KNOWN}}}\n'
    )
    assert cost_at(own, "2026-11-22", inference_geo="eu") == ("priced", Decimal("4.8"))
    assert cost_at(own, "2026-11-22", inference_geo="us") == ("priced", Decimal("4.4"))
    searches = {"tokens": {"web_search_requests": 1000}}
    assert cost_at(own, "2026-10-31", **searches) == ("priced", Decimal(10))
    assert cost_at(own, "2026-11-01", **searches) == ("priced", Decimal(8))
    session = usage(operation="other", endpoint="/v1/sessions/*", usage_status="none")
    assert bill(judge(session, own).rated) == ("zero", Decimal(0))
    assert bill(judge(session, BOOK).rated) == ("unpriced", Decimal(0))


def test_the_number_of_a_book_tells_both_editions(book):
    own = book("discounts:\n" + discount(), edition=7)
    assert (BOOK.book_seq, own.book_seq) == (2000, 2007)
    rated = rate(usage(tokens=MILLION), own)
    assert (rated.book_seq, rated.row_version, rated.book_hash) == (2007, (1 << 32) + 2007, own.content_hash)


def test_the_hash_is_of_what_decides_a_price(book):
    first = book("discounts:\n" + discount())
    same = book("# a remark\ndiscounts:\n" + discount(factor="0.80").replace("contract 7", "contract 8"))
    other = book("discounts:\n" + discount(factor="0.9"))
    assert first.content_hash == same.content_hash != other.content_hash
    assert first.content_hash != BOOK.content_hash
    assert first.label == f"anthropic-list-{first.content_hash[:12]}"


def test_a_tier_says_who_set_its_price_and_a_discount_who_granted_it(book):
    own = book("models:\n  claude-opus-5-5:\n    prices:\n" + price() + "discounts:\n" + discount())
    found = own.find("claude-opus-5-5", day("2026-11-22"))
    assert (found.standard[0].source, found.discount_source) == ("contract 7", "contract 7")
    assert found.fast[0].source.startswith("platform.claude.com")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("discount: []\n", ["overrides.discount: unknown setting"]),
        ("discounts: 5\n", ["overrides.discounts: Expected `array`, got `int`"]),
        (
            "discounts:\n" + discount(factor="85"),
            ['discounts[0].factor: must lie between 0 and 1: "0.85" takes 15 % off'],
        ),
        (
            "discounts:\n" + discount(factor="1"),
            ['discounts[0].factor: must lie between 0 and 1: "0.85" takes 15 % off'],
        ),
        (
            "discounts:\n" + discount("[claude-opuss-*]"),
            ["discounts[0].models: claude-opuss-* matches no model of the book"],
        ),
        ("discounts:\n" + discount("[]"), ["discounts[0].models: must not be empty"]),
        (
            "discounts:\n" + discount(factor="0.8500001"),
            ["discounts[0].factor: 0.8500001 has more than 6 decimals; costs keep 18 and never round"],
        ),
        (
            "models:\n  claude-opus-6:\n    aliases: [x]\n",
            ["models.claude-opus-6.prices: is required for a model that the book does not have"],
        ),
        (
            "models:\n  claude-haiku-4-5-20251001:\n    prices:\n" + price(),
            [
                "models.claude-haiku-4-5-20251001: is another name of claude-haiku-4-5, "
                "which is the one to override"
            ],
        ),
        (
            "models:\n  claude-opus-5-5:\n    aliases: [claude-opus-5]\n",
            ["models.claude-opus-5-5.aliases: claude-opus-5 already names claude-opus-5"],
        ),
        (
            "models:\n  claude-opus-5-5: {}\n",
            ["models.claude-opus-5-5.prices: is required where nothing else is said"],
        ),
        (
            "models:\n  claude-opus-5-5:\n    prices:\n" + price() + price(),
            ["models.claude-opus-5-5.prices: two rows overlap on 2026-11-01"],
        ),
        (
            "models:\n  claude-opus-5-5:\n    prices:\n" + price().replace("contract 7", "''"),
            ["models.claude-opus-5-5.prices[0].source: must not be empty"],
        ),
        (
            "models:\n  claude-opus-5-5:\n    prices:\n" + price(prices='input: "1"'),
            [
                f"models.claude-opus-5-5.prices[0].{name}: is required"
                for name in ("output", "cache_read", "cache_write_5m", "cache_write_1h")
            ],
        ),
        (
            f"free: {{endpoints: [sessions], {KNOWN}}}\n",
            ["free.endpoints: sessions must begin with a slash and not end with one"],
        ),
    ],
)
def test_a_fault_is_named_with_its_place(faults, text, expected):
    assert faults(text) == expected


@pytest.mark.parametrize("edition", [0, 1000])
def test_an_edition_is_asked_for_and_has_three_digits(faults, edition):
    text = (f"edition: {edition}\n" if edition else "") + "discounts: []\n"
    expected = "must lie between 1 and 999" if edition else "is required"
    assert faults(text, edition=None) == [f"overrides.edition: {expected}"]


def test_faults_of_the_book_and_of_the_overrides_are_reported_together(tmp_path):
    prices, overrides = tmp_path / "book.yaml", tmp_path / "mine.yaml"
    prices.write_text("name: BAD\n")
    overrides.write_text("edition: 1\ndiscounts:\n" + discount(factor="2") + "colour: blue\n")
    with pytest.raises(PriceBookFaults) as caught:
        load(str(prices), str(overrides))
    text = str(caught.value)
    assert f"the price book {prices} has faults:\n  - book.book_seq: is required" in text
    assert f"the price book {overrides} has faults:\n  - overrides.colour: unknown setting" in text
    assert "discounts[0].factor" in text


def test_a_day_that_the_calendar_does_not_have_is_named_with_its_line(faults):
    (fault,) = faults("discounts:\n" + discount(dates="effective_from: 2026-13-01"))
    assert fault.startswith("is not YAML: 2026-13-01 is no day: month must be in 1..12")
    assert "line " in fault


def test_overrides_that_cannot_be_read_are_a_fault(tmp_path):
    with pytest.raises(PriceBookFaults) as caught:
        load("", str(tmp_path / "absent.yaml"))
    assert caught.value.faults == ("cannot be read: No such file or directory",)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "models:\n  claude-haiku-5-5:\n    prices:\n" + price(),
            "models.claude-haiku-5-5.prices: the row of 2026-11-01 has no tier above 100000 prompt tokens, "
            "as another has; say `above: []` if longer prompts cost no more",
        ),
        (
            "models:\n  claude-haiku-5-5:\n    fast:\n" + price(),
            "models.claude-haiku-5-5.fast: the row of 2026-11-01 has no tier above 100000 prompt tokens, "
            "as another has; say `above: []` if longer prompts cost no more",
        ),
        (
            "models:\n  claude-opus-6:\n    is_geo_priced: false\n    prices:\n"
            + price("effective_from: 2026-10-01, effective_to: 2026-10-05")
            + price(),
            "models.claude-opus-6.prices: nothing has a price from 2026-10-05 until 2026-11-01",
        ),
        (
            "models:\n  claude-opus-5-5:\n    fast:\n"
            + price("effective_from: 2026-01-01, effective_to: 2026-02-01"),
            "models.claude-opus-5-5.fast: the row of 2026-01-01 has no standard price beside it",
        ),
        (
            "models:\n  claude-opus-6:\n    prices:\n" + price(),
            "models.claude-opus-6.is_geo_priced: say whether a region costs more; left out, none does",
        ),
        (
            "discounts:\n" + discount() + discount("[claude-opus-5]", "0.5"),
            "discounts[1]: never counts, as an earlier one holds for the same models",
        ),
    ],
)
def test_an_oversight_is_found_but_does_not_stop_anybody(overridden, text, finding):
    assert overridden(text).findings == (finding,)


def test_what_is_meant_is_no_oversight(overridden):
    text = "models:\n  claude-haiku-5-5:\n    prices:\n" + price(more=", above: []")
    assert overridden(text).findings == ()
    assert read().findings == ()


def test_the_example_of_overrides_can_be_used_and_has_no_oversight():
    reading = read("", str(EXAMPLE))
    assert (reading.book.book_seq, reading.findings) == (2001, ())
    at = day("2026-12-25")
    # 1,000,000 x 3.50 x 0.85
    assert bill(rate(usage("house-model", started_at=at, tokens=MILLION), reading.book)) == (
        "priced",
        Decimal("2.975"),
    )
