"""The models that a request names beside its own; a key that may not use them must not reach them so."""

import json

import pytest

from services.edge.batches.scan import CreateScan
from services.edge.body import read_body
from services.edge.coded_body import read_coded_body

ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}


def request(**members):
    return {"model": "claude-haiku-4-5", "max_tokens": 1, "messages": [], **members}


def beside(body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_body(raw, every_model=True)[0].beside


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, ()),
        ({"tools": [ADVISOR]}, ("claude-opus-5-5",)),
        ({"tools": [{"name": "a"}, ADVISOR, ADVISOR]}, ("claude-opus-5-5",)),
        ({"fallbacks": [{"model": "a"}, {"model": "b", "max_tokens": 1}]}, ("a", "b")),
        ({"fallbacks": [], "tools": []}, ()),
        ({"fallbacks": None}, ()),
        ({"a_member_of_tomorrow": {"deep": [{"model": "a"}]}}, ("a",)),
        ({"fallbacks": "default"}, None),
        ({"fallbacks": ["claude-opus-5-5"]}, None),
        ({"fallbacks": {"model": "claude-opus-5-5"}}, None),
        ({"fallbacks": [{"model": {"id": "a"}}]}, None),
        ({"fallbacks": [{"model": 1}]}, None),
        ({"fallbacks": [{"model": ""}]}, None),
        ({"fallbacks": [{"model": None}]}, ()),
        ({"messages": [{"role": "user", "content": [{"model": "a"}]}], "system": [{"model": "a"}]}, ()),
        ({"metadata": {"model": "a"}, "litellm_metadata": {"model": "a"}}, ()),
        ({"tools": [{"name": "t", "input_schema": {"properties": {"model": {"type": "string"}}}}]}, ()),
        ({"output_config": {"format": {"schema": {"properties": {"model": {"enum": ["a"]}}}}}}, ()),
    ],
)  # fmt: skip
def test_what_is_named_beside_the_model_is_known(members, expected):
    assert beside(request(**members)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'"tools":[{"model":"a","model":"b"}]', ("a", "b")),
        (b'"fallbacks":[{"model":"a"}],"fallbacks":[{"model":"b"}]', ("a", "b")),
        (b'"tools":[{"mod\\u0065l":"\\u0061"}]', ("a",)),
        (b'"fallback\\u0073":"default"', None),
        (b'"tools":' + b"[" * 500 + b'{"model":"a"}' + b"]" * 500, ("a",)),
    ],
)
def test_what_is_named_twice_or_in_escapes_counts(text, expected):
    assert beside(b'{"model":"claude-haiku-4-5",%s}' % text) == expected


def test_nesting_without_end_is_not_known_or_no_request():
    deep = b'{"model":"m","tools":' + b"[" * 50_000 + b'{"model":"a"}' + b"]" * 50_000 + b"}"
    assert not read_body(deep, every_model=True)[0].model or beside(deep) is None


def test_who_may_use_every_model_is_not_asked():
    body = json.dumps(request(tools=[ADVISOR])).encode()
    assert read_body(body)[0].beside == ()
    assert read_coded_body(body, "", 1_000_000).view.beside == ()
    assert read_coded_body(body, "", 1_000_000, every_model=True).view.beside == ("claude-opus-5-5",)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"tools": [ADVISOR]}, ("claude-haiku-4-5", "claude-opus-5-5")),
        ({"fallbacks": "default"}, None),
    ],
)
def test_every_item_of_a_batch_counts(members, expected):
    body = json.dumps({"requests": [{"custom_id": "a", "params": request(**members)}]}).encode()
    scan = CreateScan(1_000_000, every_model=True)
    assert len([*scan.feed(body), *scan.end()]) == 1
    assert scan.view().models_asked_for() == expected
