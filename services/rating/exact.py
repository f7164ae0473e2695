"""Does sums with money that cannot round: an inexact result is an error, never a cent more or less."""

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

ZERO = Decimal(0)
ONE = Decimal(1)

# Counts have at most 16 digits, prices 13 with their decimals, multipliers 11 each: a product of four has
# fewer than 55, and so has a sum of all lines that fit an event. Should that ever fail, it fails loudly.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])


def plain(amount: Decimal | str) -> Decimal:
    """Write an amount the one way that has no trailing zero and no exponent above zero: 10, not 1E+1."""
    shortest = EXACT.normalize(EXACT.create_decimal(amount))
    if not shortest:
        return ZERO
    return EXACT.quantize(shortest, ONE) if shortest == EXACT.to_integral_value(shortest) else shortest
