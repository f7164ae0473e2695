"""What is read out of a request body, and that nothing but `litellm_metadata` is ever cut out of it."""

import json

import pytest

from services.edge.body import BodyView, read_body, without_member

CUT = [
    (b'{"litellm_metadata":{"a":1}}', b"{}"),
    (b'{ "litellm_metadata" : {"a":1} }', b"{  }"),
    (b'{"litellm_metadata":{"a":1},"model":"m"}', b'{"model":"m"}'),
    (b'{"model":"m","litellm_metadata":{"a":1}}', b'{"model":"m"}'),
    (b'{"a":1,"litellm_metadata":{"a":1},"b":2}', b'{"a":1,"b":2}'),
    (
        b'{\n  "a": 1,\n  "litellm_metadata": {"a": [1, {"b": "}"}]},\n  "b": 2\n}',
        b'{\n  "a": 1,\n  "b": 2\n}',
    ),
    (b'{"a":1 , "litellm_metadata":null }', b'{"a":1 }'),
    (
        b'\r\n\t{"a": 1.50e+3, "litellm_metadata": "x", "b":"\\u00e9"}\n',
        b'\r\n\t{"a": 1.50e+3, "b":"\\u00e9"}\n',
    ),
    (b'{"litellm\\u005fmetadata":1,"a":2}', b'{"a":2}'),
    (b'{"\\u006citellm_metadata":true,"a":2}', b'{"a":2}'),
    (b'{"litellm_metadata":1,"a":2,"litellm_metadata":3}', b'{"a":2}'),
    (b'{"a":1,"litellm_metadata":1,"litellm_metadata":2}', b'{"a":1}'),
    (b'{"litellm_metadata":1,"litellm_metadata":2,"a":1}', b'{"a":1}'),
    (b'{"litellm_metadata":1,"litellm_metadata":2}', b"{}"),
    (b'{"a":{"litellm_metadata":1},"litellm_metadata":2}', b'{"a":{"litellm_metadata":1}}'),
    (b'{"a":"\\\\","litellm_metadata":"\\"}","b":"{"}', b'{"a":"\\\\","b":"{"}'),
    (b'{"a":"litellm_metadata","litellm_metadata":-0.5,"b":[]}', b'{"a":"litellm_metadata","b":[]}'),
    ('{"a":"日本\u2028","litellm_metadata":{},"b":"é"}'.encode(), '{"a":"日本\u2028","b":"é"}'.encode()),
]

UNTOUCHED = [
    b"",
    b"   ",
    b"null",
    b'"litellm_metadata"',
    b'[{"litellm_metadata":1}]',
    b'{"a":{"litellm_metadata":1}}',
    b'{"a":[{"litellm_metadata":1}],"b":"\\"litellm_metadata\\":1"}',
    b'{"litellm_metadata2":1,"Litellm_metadata":2}',
    b'{"litellm_metadata":1',
    b'{"litellm_metadata":1}}',
    b'{"litellm_metadata":1,}',
    b'{"litellm_metadata":tru,"a":1}',
    b"{litellm_metadata:1}",
    b'\xef\xbb\xbf{"litellm_metadata":1}',
    b"\x1f\x8b\x08\x00\x00litellm_metadata",
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"litellm_metadata":1}',
]


@pytest.mark.parametrize(("body", "expected"), CUT)
def test_litellm_metadata_is_cut_out_and_every_other_byte_stays(body, expected):
    assert read_body(body)[1] == expected


@pytest.mark.parametrize("body", UNTOUCHED, ids=lambda body: repr(body[:40]))
def test_a_body_without_the_member_or_that_is_no_json_object_is_not_touched(body):
    assert read_body(body)[1] == body


@pytest.mark.parametrize(("body", "expected"), CUT)
def test_what_is_left_is_the_same_object_less_the_member(body, expected):
    left = json.loads(body)
    del left["litellm_metadata"]
    assert json.loads(expected) == left


def test_the_meter_reads_model_stream_user_and_metadata():
    body = (
        b'{"model":"claude-sonnet-5-5","stream":true,"metadata":{"user_id":"u1"},'
        b'"litellm_metadata":{"tags":["a"],"n":1},"messages":[{"role":"user","content":"hi"}]}'
    )
    view = BodyView(
        model="claude-sonnet-5-5", is_stream=True, user_id="u1", litellm_metadata={"tags": ["a"], "n": 1}
    )
    assert read_body(body)[0] == view


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":5,"stream":"true","metadata":[1],"litellm_metadata":"x"}',
        b'{"model":null,"stream":null,"metadata":null,"litellm_metadata":null}',
        b'{"metadata":{"user_id":7},"stream":1}',
        b'{"model":"m"',
        b"[]",
    ],
)
def test_members_of_another_type_say_nothing(body):
    assert read_body(body)[0] == BodyView()


def test_of_duplicate_members_the_last_one_is_read():
    body = b'{"model":"a","litellm_metadata":{"x":1},"model":"b","litellm_metadata":{"y":2}}'
    assert read_body(body) == (BodyView(model="b", litellm_metadata={"y": 2}), b'{"model":"a","model":"b"}')


def test_a_member_that_is_not_there_cuts_nothing():
    assert without_member(b'{"a":1, "b":2}', "c") == b'{"a":1, "b":2}'
