"""What a create call may not say twice, and how much of it is held."""

import json

import pytest

from services.edge.batches.scan import (
    MODELS_MAX,
    REQUESTS_MAX,
    CreateScan,
    CreateView,
    ItemTooLarge,
    TooManyMembers,
    TwiceNamed,
)

MODEL = {"model": "m"}
EDIT_BYTES = 24


def scanned(body, chunk=50, value_bytes_max=1000, aliases=None):
    scan = CreateScan(value_bytes_max, aliases or {})
    for at in range(0, len(body), chunk):
        list(scan.feed(body[at : at + chunk]))
        assert scan.held <= value_bytes_max + chunk + EDIT_BYTES * scan.view().requests
    list(scan.end())
    return scan


def body_of(*params):
    return json.dumps(
        {"requests": [{"custom_id": str(n), "params": each} for n, each in enumerate(params)]}
    ).encode()


def test_models_are_named_once_each_in_order():
    view = scanned(body_of(MODEL, {"model": "n"}, MODEL)).view()
    assert view == CreateView(is_read=True, requests=3, models=("m", "n"), are_models_known=True)
    assert view.models_asked_for() == ("m", "n")


def test_for_aliases_the_models_that_go_up_are_named_and_what_is_noted_is_counted_as_held():
    scan = scanned(body_of(MODEL, {"model": "fast"}, {"model": "n"}), aliases={"fast": "n", "m": "x/y"})
    assert scan.view().models_asked_for() == ("x/y", "n")
    assert scan.held == 2 * EDIT_BYTES
    assert [text for _, _, text in scan.take_edits()] == [b'"x/y"', b'"n"']
    assert scan.held == 0


@pytest.mark.parametrize("params", [{}, {"model": 7}, {"model": "x" * 129}, "m", None])
def test_an_item_without_a_model_that_can_be_read_leaves_it_open_what_is_asked_for(params):
    view = scanned(body_of(MODEL, params)).view()
    assert (view.is_read, view.requests, view.models, view.models_asked_for()) == (True, 2, ("m",), None)


def test_more_models_than_are_kept_leave_it_open_too():
    names = [f"m-{number}" for number in range(MODELS_MAX + 1)]
    view = scanned(body_of(*({"model": name} for name in names))).view()
    assert (view.models, view.models_asked_for()) == (tuple(names[:-1]), None)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"requests":1,"requests":[]}', "requests"),
        (b'{"r\\u0065quests":[],"requests":[]}', "requests"),
        (b'{"requests":[{"params":{"model":"a","mode\\u006c":"b"}}]}', "requests.0.params.model"),
        (b'{"requests":[1,{"custom_id":"a","x":{},"custom\\u005fid":"b"}]}', "requests.1.custom_id"),
        (b'{"requests":[{"params":{"model":"a"}, "params":{"model":"a"}}]}', "requests.0.params"),
    ],
)
def test_a_member_that_could_be_read_differently_is_named_by_its_path(body, path):
    with pytest.raises(TwiceNamed, match=f"^{path}$"):
        scanned(body)


def test_one_value_longer_than_is_held_is_refused_before_it_is_complete():
    scan = CreateScan(1000)
    list(scan.feed(b'{"requests":[{"params":{"system":"'))
    with pytest.raises(ItemTooLarge):
        for _ in range(30):
            list(scan.feed(b"x" * 50))
    assert scan.held <= 1100


def test_white_space_is_not_held():
    scan = scanned(b" " * 5000 + b'{"requests":[' + b" " * 5000 + b"{}" + b"\n" * 5000 + b"]}" + b" " * 5000)
    assert (scan.view().requests, scan.held) == (1, 0)


def test_more_requests_than_are_read_are_refused():
    body = b'{"requests":[' + b"0," * REQUESTS_MAX + b"0]}"
    with pytest.raises(TooManyMembers):
        scanned(body, chunk=1 << 16, value_bytes_max=1 << 20)


@pytest.mark.parametrize("where", ["top", "item", "params"])
def test_more_members_than_are_walked_are_refused(where):
    many = {str(number): 0 for number in range(1001)}
    given = {
        "top": many,
        "item": {"requests": [many]},
        "params": {"requests": [{"params": {"litellm_metadata": {}, **many}}]},
    }[where]
    with pytest.raises(TooManyMembers):
        scanned(json.dumps(given).encode(), value_bytes_max=1 << 20)


def test_metadata_of_the_batch_is_read_and_what_is_too_long_is_only_cut():
    kept = scanned(b'{"litellm_metadata":{"user":"u"},"requests":[]}').view()
    assert (kept.litellm_metadata, kept.is_metadata_too_long) == ({"user": "u"}, False)
    long = json.dumps({"litellm_metadata": {"user": "u" * 70_000}, "requests": []}).encode()
    scan = scanned(long, value_bytes_max=1 << 20)
    assert (scan.view().litellm_metadata, scan.view().is_metadata_too_long) == ({}, True)
    assert list(scan.take_edits()) == [(1, long.index(b'"requests"'), b"")]


@pytest.mark.parametrize(
    "body",
    [b"", b"  ", b"1", b"[]", b'{"a":1}}', b'{"a":1}x', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":"\xc3'],
)
def test_what_is_no_json_object_is_not_read(body):
    scan = scanned(body, chunk=1)
    assert (scan.view(), list(scan.take_edits()), scan.held) == (CreateView(), [], 0)
