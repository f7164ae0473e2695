"""Sets rows into columns for a terminal; what a caller may have written is made printable."""

from collections.abc import Sequence
from decimal import Decimal

GAP = "  "


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table with numbers to the right and everything else to the left."""
    cells = [[printable(_shown(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    is_number = [
        bool(rows) and all(isinstance(row[place], int | Decimal) for row in rows)
        for place in range(len(head))
    ]
    return "\n".join(
        GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in (head, *cells)
    )


def _shown(cell: object) -> str:
    """Write money in plain figures, without an exponent."""
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)


def printable(text: str) -> str:
    """Put a question mark for what a terminal might obey."""
    return "".join(each if each.isprintable() else "?" for each in text)
