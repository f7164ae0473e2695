"""Does sums with money that cannot round: an inexact result is an error, never a cent more or less."""

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

ZERO = Decimal(0)
ONE = Decimal(1)

# Counts have at most 16 digits, prices 13 with their decimals, two multipliers 10 each, a discount 6: a
# product has at most 55, a sum of all lines that fit an event below 60. Should that fail, it fails loudly.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])


def plain(amount: Decimal | str) -> Decimal:
    """Write an amount the one way that has no trailing zero and no exponent above zero: 10, not 1E+1."""
    shortest = EXACT.normalize(EXACT.create_decimal(amount))
    if not shortest:
        return ZERO
    return EXACT.quantize(shortest, ONE) if shortest == EXACT.to_integral_value(shortest) else shortest
