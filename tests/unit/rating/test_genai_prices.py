"""A second opinion on every price: genai-prices, with a written reason for each disagreement."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import yaml

from tests.unit.rating.genai_prices import PROMPTS, Cell, grid, ours, theirs

FILE = Path(__file__).parent / "genai_prices_differences.yaml"
TOKENS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
CELLS_MIN = 10_000


class Difference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cells in which the two books disagree in the same way for the same reason."""

    why: str
    theirs: str
    models: tuple[str, ...]
    modes: tuple[str, ...]
    dimensions: tuple[str, ...] = TOKENS
    prompts: tuple[int, ...] = (0, *PROMPTS)
    since: date = msgspec.field(name="from", default=date.min)
    until: date = date.max

    def covers(self, cell: Cell) -> bool:
        return (
            cell.model in self.models
            and cell.mode in self.modes
            and cell.dimension in self.dimensions
            and cell.prompt in self.prompts
            and midnight(self.since) <= cell.at < midnight(self.until)
        )


DIFFERENCES = msgspec.convert(yaml.safe_load(FILE.read_text()), list[Difference])


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def how(mine: Decimal | None, other: Decimal | None) -> str:
    """Say how theirs differs from ours, in the words of the file; nothing where it does not."""
    if mine == other:
        return ""
    if other is None:
        return "unknown"
    if mine is None:
        return "unpriced"
    return f"{(other / mine).normalize():f} times" if other else "free"


@pytest.fixture(scope="module")
def compared() -> dict[Cell, str]:
    return {cell: how(ours(cell), theirs(cell)) for cell in grid()}


def test_every_disagreement_is_written_down_once_with_its_reason(compared):
    unexpected = {
        cell: (said, reasons)
        for cell, said in compared.items()
        if said and (reasons := [each.theirs for each in DIFFERENCES if each.covers(cell)]) != [said]
    }
    assert unexpected == {}


def test_nothing_is_written_down_that_does_not_disagree(compared):
    agreed = {
        cell: each.why
        for each in DIFFERENCES
        for cell, said in compared.items()
        if not said and each.covers(cell)
    }
    assert agreed == {}


def test_every_reason_has_a_disagreement(compared):
    idle = [
        each.why
        for each in DIFFERENCES
        if not any(said and each.covers(cell) for cell, said in compared.items())
    ]
    assert idle == []


def test_the_grid_is_large_and_the_books_mostly_agree(compared):
    assert len(compared) >= CELLS_MIN
    standard = [
        said for cell, said in compared.items() if cell.mode == "standard" and "mythos" not in cell.model
    ]
    assert 10 * standard.count("") > 9 * len(standard)
