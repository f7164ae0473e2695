"""No event is larger than a record may be: what goes is named, and what is left is whole."""

import msgspec
import pytest

from schemas import codec
from services.edge import events
from services.edge.events import Ending, Place
from services.edge.size import EVENT_BYTES_MAX
from tests.unit.edge.exchanges import EXCHANGE, FINISHED_AT, READING, SOURCE_ID, event_of

LARGE = "x" * EVENT_BYTES_MAX
ENDING = Ending(outcome="completed", finished_at=FINISHED_AT, http_status=200)


def exchange(**attribution):
    return msgspec.structs.replace(
        EXCHANGE, attribution=msgspec.structs.replace(EXCHANGE.attribution, **attribution)
    )


def usage_of(exchange, reading=READING):
    _, record = events.closing(exchange, reading, ENDING, Place(SOURCE_ID, 1))
    assert len(record.value) <= EVENT_BYTES_MAX
    return event_of(record)


def test_an_event_that_fits_is_left_as_it_is():
    event = usage_of(EXCHANGE)
    assert (event.cut, event.usage, event.attribution) == ((), READING.usage, EXCHANGE.attribution)


def test_the_largest_event_that_fits_is_left_as_it_is():
    fixed = len(codec.encode(usage_of(exchange(metadata={"": ""}))))
    assert usage_of(exchange(metadata={"": "x" * (EVENT_BYTES_MAX - fixed)})).cut == ()
    assert usage_of(exchange(metadata={"": "x" * (EVENT_BYTES_MAX - fixed + 1)})).cut == ("usage",)


@pytest.mark.parametrize(
    ("attribution", "cut", "left"),
    [
        ({"metadata": {"job": LARGE}}, ("usage", "metadata"), {"metadata": {}}),
        ({"tags": (LARGE,)}, ("usage", "metadata", "tags"), {"metadata": {}, "tags": ()}),
    ],
)
def test_what_goes_goes_in_one_order_until_the_rest_fits(attribution, cut, left):
    event = usage_of(exchange(**attribution))
    assert (event.cut, event.usage) == (cut, msgspec.Raw(b"null"))
    assert event.attribution == msgspec.structs.replace(EXCHANGE.attribution, **attribution | left)
    assert event.tokens == READING.tokens


def test_an_opening_event_has_no_usage_to_lose():
    (record,) = events.opening(exchange(metadata={"job": LARGE}))
    event = event_of(record)
    assert (event.cut, event.attribution.metadata, event.attribution.tags) == (("metadata",), {}, ("a",))


def test_what_was_cut_when_it_began_is_said_of_the_end_as_well():
    """A successor knows of an orphan only what its opening event says."""
    assert usage_of(msgspec.structs.replace(EXCHANGE, cut=("metadata",))).cut == ("metadata",)
