"""The rank of a usage row's versions."""

import msgspec

from schemas.rated import row_version
from tests.unit.schemas.test_codec import USAGE

ORPHANED = msgspec.structs.replace(USAGE, outcome="orphaned")


def test_a_real_ending_outranks_an_orphaned_one_and_a_later_book_an_earlier_one():
    assert (row_version(ORPHANED, 1), row_version(USAGE, 1)) == (1, 4_294_967_297)
    ranked = [row_version(ORPHANED, 1), row_version(ORPHANED, 2**32 - 1), row_version(USAGE, 0)]
    assert ranked == sorted(set(ranked))
    assert row_version(USAGE, 1) < row_version(USAGE, 2)
