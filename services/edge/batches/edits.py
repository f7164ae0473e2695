"""Holds what of a long body does not go up as it came, in a few bytes each; makes the body that does."""

import sys
from array import array
from collections.abc import Iterable, Iterator

from services.edge.body import Edit

# Behind every byte that there can be.
_NO_MORE: Edit = (sys.maxsize, sys.maxsize, b"")


class Edits:
    """Edits in order, none over another: 24 bytes each, and every text that goes in once."""

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        self._triples = array("Q")  # beginning, end and number of the text of each in turn
        self._numbers: dict[bytes, int] = {}
        self.growth = 0  # by how much they make the body longer; mostly below 0
        self.add(edits)

    def __len__(self) -> int:
        return len(self._triples) // 3

    def __iter__(self) -> Iterator[Edit]:
        texts = list(self._numbers)
        triples = iter(self._triples)
        return (
            (begin, end, texts[number]) for begin, end, number in zip(triples, triples, triples, strict=True)
        )

    @property
    def held(self) -> int:
        """Bytes that they take in memory."""
        return len(self._triples) * self._triples.itemsize

    @property
    def begin(self) -> int:
        """Where the first of them begins; 0 where there is none."""
        return self._triples[0] if self._triples else 0

    def add(self, edits: Iterable[Edit], offset: int = 0) -> None:
        """Take in those that follow, counted from `offset`."""
        for begin, end, text in edits:
            number = self._numbers.setdefault(text, len(self._numbers))
            self._triples.extend((offset + begin, offset + end, number))
            self.growth += len(text) - (end - begin)

    def applied(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Give the body as it goes up, piece by piece, none of them empty."""
        edits = iter(self)
        edit = next(edits, _NO_MORE)
        at = 0
        for piece in pieces:
            start, behind = at, at + len(piece)
            kept: list[bytes] = []
            while edit[0] < behind:
                begin, end, text = edit
                if begin >= start:  # it begins in this piece, and did not go on from the one before
                    kept += (piece[at - start : begin - start], text)
                at = min(end, behind)
                if end > behind:
                    break
                edit = next(edits, _NO_MORE)
            up = b"".join((*kept, piece[at - start :]))
            if up:
                yield up
            at = behind
