"""No binary fraction comes near money: nothing that could make one stands in the code that money passes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("services/rating", "services/sink", "schemas")
MONEY = {"decimal", "services.rating.exact"}
# Paths, times and waits, and what is shown to Prometheus, which counts in floats: nothing that is booked.
NO_MONEY = {
    "schemas/generate.py",
    "schemas/ids.py",
    "services/rating/end_users.py",
    "services/sink/completeness.py",
    "services/sink/store.py",
}


def named(path):
    return path.relative_to(ROOT).as_posix()


def modules():
    return sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py"))


def imported(path):
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def may_hold_money(path):
    """Whether a module does sums with money; one that awaits the world waits in seconds, and does none."""
    if named(path) in NO_MONEY:
        return False
    return bool(imported(path) & MONEY) or "asyncio" not in imported(path)


def suspicious(source):
    """Name every float literal, every use of `float` or `round`, and every true division."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"the literal {node.value}"
        if isinstance(node, ast.Name) and node.id in ("float", "round", "complex"):
            yield node.lineno, node.id
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "a division"
        if isinstance(node, ast.Attribute) and node.attr in ("from_float", "fsum", "truediv"):
            yield node.lineno, node.attr


@pytest.mark.parametrize("path", [*filter(may_hold_money, modules())], ids=named)
def test_no_module_that_money_passes_can_make_a_float(path):
    assert list(suspicious(path.read_text())) == []


def test_the_search_finds_what_it_looks_for():
    source = "def cost(x):\n    y = x / 3\n    y /= 2\n    return float(y) * 0.5 + round(x)\n"
    assert sorted(suspicious(source)) == [
        (2, "a division"),
        (3, "a division"),
        (4, "float"),
        (4, "round"),
        (4, "the literal 0.5"),
    ]


@pytest.mark.parametrize("name", sorted(NO_MONEY))
def test_an_exception_is_still_needed(name):
    assert list(suspicious((ROOT / name).read_text()))
