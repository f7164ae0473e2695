"""Works out written sums such as `(1000 * 2 + 500 * 10) / 1e6 * 0.5` exactly; knows nothing of prices."""

import re
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation

_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero])
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e\d+)?|[-+*/()])", re.ASCII)


def worked_out(text: str) -> Decimal:
    """Give the value of a sum; ValueError where it is none, Inexact where it cannot be written down."""
    tokens = _tokens(text)
    value = _sum(tokens)
    if tokens:
        raise ValueError(f"{text!r} goes on with {tokens[0]!r}")
    return value


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        matched = _TOKEN.match(text, place)
        if matched is None:
            raise ValueError(f"{text!r} is no sum from {text[place:]!r} on")
        tokens.append(matched[1])
        place = matched.end()
    return tokens


def _sum(tokens: list[str]) -> Decimal:
    value = _product(tokens)
    while tokens and tokens[0] in "+-":
        operator, right = tokens.pop(0), _product(tokens)
        value = _EXACT.add(value, right) if operator == "+" else _EXACT.subtract(value, right)
    return value


def _product(tokens: list[str]) -> Decimal:
    value = _factor(tokens)
    while tokens and tokens[0] in "*/":
        operator, right = tokens.pop(0), _factor(tokens)
        value = _EXACT.multiply(value, right) if operator == "*" else _EXACT.divide(value, right)
    return value


def _factor(tokens: list[str]) -> Decimal:
    if not tokens:
        raise ValueError("a number is missing at the end")
    token = tokens.pop(0)
    if token == "(":
        value = _sum(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("a parenthesis is not closed")
        return value
    return Decimal(token) if token[0].isdigit() else _fail(token)


def _fail(token: str) -> Decimal:
    raise ValueError(f"{token!r} stands where a number should")
