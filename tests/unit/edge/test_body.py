"""What is read out of a request body, and that only `litellm_metadata` and an alias are changed in it."""

import json

import pytest

from services.edge.body import CACHE_MARKS_MAX, MEMBERS_MAX, METADATA_BYTES_MAX, BodyView, read_body

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


def test_of_metadata_that_stands_twice_the_last_one_is_read_and_both_are_cut():
    body = b'{"litellm_metadata":{"x":1},"model":"b","litellm_metadata":{"y":2}}'
    assert read_body(body) == (BodyView(model="b", litellm_metadata={"y": 2}), b'{"model":"b"}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a", "x":{"model":1}, "mod\\u0065l" : null}',
        b'{"\\u006dodel":1,"\\u006dodel":2}',
    ],
)
def test_a_model_that_stands_twice_is_a_fault_however_it_is_written(body):
    assert read_body(body)[0].fault == "model_twice"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","tools":[{"model":"b"}],"x":"\\"model\\":1"}',
        b'{"x":{"model":"a","model":"b"},"model":"c"}',
        b'{"model":"a","Model":"b"," model":"c"}',
        b'[{"model":"a","model":"b"}]',
    ],
)
def test_a_model_that_stands_twice_elsewhere_is_none(body):
    assert (read_body(body)[0].fault, read_body(body)[1]) == ("", body)


@pytest.mark.parametrize(
    "walked", [b'"litellm_metadata":1', b'"model":"m","x":{"model":1}', b'"\\u006dodel":"m"']
)
def test_an_object_of_very_many_members_is_a_fault_where_they_must_be_walked(walked):
    own = len(json.loads(b"{%s}" % walked))

    def fault_of(count):
        others = b",".join(b'"k%d":1' % number for number in range(count - own))
        return read_body(b"{%s,%s}" % (others, walked))[0].fault

    assert (fault_of(MEMBERS_MAX), fault_of(MEMBERS_MAX + 1)) == ("", "too_many_members")


def test_an_object_of_very_many_members_passes_where_nothing_can_be_cut_or_stand_twice():
    body = b'{"model":"m",%s}' % b",".join(b'"k%d":1' % number for number in range(2 * MEMBERS_MAX))
    assert read_body(body) == (BodyView(model="m"), body)


def test_metadata_beyond_its_limit_is_cut_out_and_not_read():
    long = b'"' + b"x" * METADATA_BYTES_MAX + b'"'
    body = b'{"litellm_metadata":{"a":%s},"metadata":{"user_id":%s},"model":"m"}' % (long, long)
    view, left = read_body(body)
    assert view == BodyView(model="m", is_metadata_too_long=True)
    assert left == b'{"metadata":{"user_id":%s},"model":"m"}' % long


def marked(*marks):
    blocks = b",".join(b'{"type":"text","text":"x","cache_control":%s}' % mark for mark in marks)
    return b'{"system":[%s],"messages":[]}' % blocks


FIVE, HOUR = b'{"type":"ephemeral"}', b'{"ttl" : "1h", "type":"ephemeral"}'


ALIASES = {"fast": "claude-haiku-4-5", 'q"é': 'q"\\é', "first": "fast", "same": "same"}


@pytest.mark.parametrize(
    ("body", "expected", "model"),
    [
        (b'{"model":"fast"}', b'{"model":"claude-haiku-4-5"}', "claude-haiku-4-5"),
        (b'{"model":"first"}', b'{"model":"fast"}', "fast"),
        (
            b'\n{ "a" : 1.0e0 ,\t"model" :\r\n"f\\u0061st" , "messages":[] }\n',
            b'\n{ "a" : 1.0e0 ,\t"model" :\r\n"claude-haiku-4-5" , "messages":[] }\n',
            "claude-haiku-4-5",
        ),
        (b'{"mod\\u0065l":"fast"}', b'{"mod\\u0065l":"claude-haiku-4-5"}', "claude-haiku-4-5"),
        ('{"model":"q\\"é"}'.encode(), '{"model":"q\\"\\\\é"}'.encode(), 'q"\\é'),
        (
            b'{"x":{"model":"fast"},"model":"fast","y":"fast"}',
            b'{"x":{"model":"fast"},"model":"claude-haiku-4-5","y":"fast"}',
            "claude-haiku-4-5",
        ),
        (
            b'{"litellm_metadata":{},"model":"fast","litellm_metadata":{}}',
            b'{"model":"claude-haiku-4-5"}',
            "claude-haiku-4-5",
        ),
    ],
)
def test_a_model_goes_up_for_its_alias_and_every_other_byte_stays(body, expected, model):
    view, up = read_body(body, ALIASES)
    assert (view.model, up) == (model, expected)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"claude-haiku-4-5"}',
        b'{"model":"Fast"}',
        b'{"model":" fast"}',
        b'{"model":"same"}',
        b'{"model":""}',
        b'{"model":["fast"]}',
        b'{"models":"fast","x":{"model":"fast"}}',
        b'{"model":"fast"',
        b'["fast"]',
        b'"fast"',
    ],
)
def test_a_body_that_asks_by_no_alias_is_the_very_object_that_came(body):
    assert read_body(body, ALIASES)[1] is body


def test_an_alias_that_stands_twice_stays_refused():
    body = b'{"model":"fast","model":"claude-haiku-4-5"}'
    view, up = read_body(body, ALIASES)
    assert (view.fault, up) == ("model_twice", body)


def test_an_object_of_very_many_members_is_a_fault_where_an_alias_is_looked_for():
    body = b'{"model":"fast",%s}' % b",".join(b'"k%d":1' % number for number in range(MEMBERS_MAX))
    assert read_body(body, ALIASES)[0].fault == "too_many_members"
    assert read_body(body)[0].fault == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (marked(), "none"),
        (marked(FIVE), "5m"),
        (marked(b'{"type":"ephemeral","ttl":"5m"}'), "5m"),
        (marked(b'{"type":"ephemeral","ttl":null}'), "5m"),
        (marked(HOUR), "1h"),
        (marked(HOUR, HOUR), "1h"),
        (marked(FIVE, HOUR), "both"),
        (marked(b"null"), "none"),
        (marked(b'{"ttl":"2d"}'), "none"),
        (marked(b'{"ttl":7}'), "none"),
        (b'{"cache_control":{"ttl":"1h"},"messages":[]}', "1h"),
        (b'{"messages":[{"content":[{"content":[{"cache_control":{"ttl":"1h"}}]}]}]}', "1h"),
        (b'{"messages":[{"content":"\\"cache_control\\":{\\"ttl\\":\\"1h\\"}"}]}', "none"),
        (b'{"messages":[{"content":"cache_control"}]}', "none"),
        (marked(*[FIVE] * CACHE_MARKS_MAX, HOUR), "5m"),
    ],
)
def test_the_lifetimes_that_cache_marks_ask_for_are_read_wherever_they_stand(body, expected):
    assert read_body(body)[0].cache_ttls == expected
