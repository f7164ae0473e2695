from services.local.kafka.batch import ProducerId, control_batch, header_at, placed_at
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.producers import AbortedTransaction, ProducerStates
from tests.unit.local_kafka.batches import NOW_MS, batch


def head(offset, epoch, sequence, count=1, producer_id=4, transactional=False):
    values = [b"v"] * count
    data = batch(*values, producer=(producer_id, epoch, sequence), transactional=transactional)
    return header_at(placed_at(data, offset))


def marker(offset, producer_id=4, epoch=0):
    return header_at(placed_at(control_batch(ProducerId(producer_id), epoch, True, NOW_MS), offset))


def verdict(states, header):
    try:
        found = states.check(header)
    except Refused as refusal:
        return refusal.code
    return "new" if found is None else found.base_offset


def test_sequences_decide_what_is_new_repeated_or_refused():
    states = ProducerStates()
    states.record(head(10, 1, 0, count=3))

    assert {
        "next": verdict(states, head(0, 1, 3)),
        "repeat": verdict(states, head(0, 1, 0, count=3)),
        "gap": verdict(states, head(0, 1, 4)),
        "overlap": verdict(states, head(0, 1, 2)),
        "older epoch": verdict(states, head(0, 0, 3)),
        "newer epoch from 0": verdict(states, head(0, 2, 0)),
        "newer epoch from 3": verdict(states, head(0, 2, 3)),
        "unknown producer": verdict(states, head(0, 0, 17, producer_id=5)),
        "no producer": verdict(states, head(0, -1, -1, producer_id=-1)),
    } == {
        "next": "new",
        "repeat": 10,
        "gap": ErrorCode.OUT_OF_ORDER_SEQUENCE,
        "overlap": ErrorCode.OUT_OF_ORDER_SEQUENCE,
        "older epoch": ErrorCode.INVALID_PRODUCER_EPOCH,
        "newer epoch from 0": "new",
        "newer epoch from 3": ErrorCode.OUT_OF_ORDER_SEQUENCE,
        "unknown producer": "new",
        "no producer": "new",
    }


def test_sequences_wrap_to_zero():
    states = ProducerStates()
    states.record(head(0, 0, 2**31 - 2, count=2))

    assert (verdict(states, head(2, 0, 0)), verdict(states, head(2, 0, 1))) == (
        "new",
        ErrorCode.OUT_OF_ORDER_SEQUENCE,
    )


def test_a_marker_of_a_newer_epoch_fences_the_old_producer():
    states = ProducerStates()
    states.record(head(0, 0, 0, transactional=True))

    states.record_marker(marker(1, epoch=1), committed=False)

    assert verdict(states, head(2, 0, 1)) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert verdict(states, head(2, 1, 0)) == "new"
    assert states.open_transactions() == {}
    assert states.aborted_between(0, 10) == [
        AbortedTransaction(producer_id=ProducerId(4), first_offset=0, marker_offset=1)
    ]


def test_the_stable_offset_is_the_first_record_of_the_oldest_open_transaction():
    states = ProducerStates()
    states.record(head(5, 0, 0, producer_id=1, transactional=True))
    states.record(head(7, 0, 0, producer_id=2, transactional=True))
    seen = [states.stable_offset(9)]

    for producer_id in (1, 2):
        states.record_marker(marker(8 + producer_id, producer_id), committed=True)
        seen.append(states.stable_offset(11))

    assert seen == [5, 7, 11]


def test_aborted_spans_are_given_where_they_overlap_and_forgotten_with_their_records():
    states = ProducerStates()
    states.record(head(5, 0, 0, transactional=True))
    states.record_marker(marker(8), committed=False)

    overlaps = [bool(states.aborted_between(*span)) for span in ((0, 5), (0, 6), (8, 9), (9, 20))]
    states.forget_before(9)

    assert overlaps == [False, True, True, False]
    assert states.aborted_between(0, 20) == []


def test_the_longest_silent_producer_is_forgotten_but_never_one_in_a_transaction():
    states = ProducerStates(producers_max=2)
    states.record(head(0, 0, 0, producer_id=1, transactional=True))
    states.record(head(1, 0, 0, producer_id=2))
    states.record(head(2, 0, 0, producer_id=3))

    known = [verdict(states, head(3, 0, 9, producer_id=number)) != "new" for number in (1, 2, 3)]

    assert known == [True, False, True]
