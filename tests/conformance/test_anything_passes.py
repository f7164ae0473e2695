"""Whatever headers and target a client writes, both sides see the same."""

import hypothesis
from hypothesis import strategies as st

from services.local.anthropic.reply import CannedReply
from tests.conformance.sides import (
    ADDED_DOWN,
    CALLER_KEY,
    CREDENTIALS,
    DROPPED_DOWN,
    DROPPED_UP,
    DROPPED_UP_PREFIXES,
    Sent,
)

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# A fragment is no part of a request; a "?" with nothing behind it is lost, as the README says.
TARGET = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "#?")
EXAMPLES_MAX = 60
OK = CannedReply(headers=((b"content-length", b"2"),), chunks=(b"ok",))

# What the connection, its framing or the simulation reads; what else is dropped is among the examples.
READ_ON_THE_WAY = {b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"host"}
READ_ON_THE_WAY |= CREDENTIALS | {b"content-encoding", b"x-simulate"}

names = st.text(TOKEN, min_size=1, max_size=30).map(str.encode)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40)
# Going up, bytes that are not UTF-8 are sent as such, as the README says; coming down any byte stays.
values_up = texts.map(lambda text: text.strip().encode().strip())
values_down = st.binary(max_size=60).map(
    lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F).strip()
)
anthropic_names = st.sampled_from(
    [b"anthropic-beta", b"Anthropic-Version", b"X-Stainless-OS", b"x-app", b"accept"]
)
dropped_names = st.sampled_from(
    sorted(DROPPED_UP - READ_ON_THE_WAY) + [prefix + b"any" for prefix in DROPPED_UP_PREFIXES]
)


def header_lists(dropped, read, values):
    return st.lists(
        st.tuples(names | anthropic_names | dropped, values).filter(
            lambda header: header[0].lower() not in read
        ),
        max_size=12,
    )


def settled(sides):
    """Hypothesis may begin a new example in the middle of another one."""
    sides.level()
    sides.reply_next(OK)


@hypothesis.given(headers=header_lists(dropped_names, READ_ON_THE_WAY, values_up))
@hypothesis.settings(max_examples=EXAMPLES_MAX, deadline=None)
def test_any_headers_go_up(module_sides, headers):
    settled(module_sides)
    sent = Sent(b"GET", b"/v1/models", ((b"X-Api-Key", CALLER_KEY), *headers), framing="none")
    straight, through = module_sides.ask(sent)
    assert (straight.status, through) == (200, straight)
    straight_up, through_up = module_sides.received()
    assert through_up == straight_up


@hypothesis.given(
    headers=header_lists(
        st.sampled_from(sorted(DROPPED_DOWN - READ_ON_THE_WAY)),
        READ_ON_THE_WAY | ADDED_DOWN,
        values_down,
    )
)
@hypothesis.settings(max_examples=EXAMPLES_MAX, deadline=None)
def test_any_headers_come_down(module_sides, headers):
    module_sides.level()
    lower = tuple((name.lower(), value) for name, value in headers)
    module_sides.reply_next(CannedReply(headers=(*lower, (b"content-length", b"2")), chunks=(b"ok",)))
    sent = Sent(b"GET", b"/v1/models", ((b"X-Api-Key", CALLER_KEY),), framing="none")
    straight, through = module_sides.ask(sent)
    assert (straight.status, through) == (200, straight)


@hypothesis.given(
    path=st.text(TARGET, max_size=80).map(str.encode),
    query=st.none() | st.text(TARGET + "?", min_size=1, max_size=80).map(str.encode),
    prefix=st.sampled_from([b"", b"/anthropic"]),
)
@hypothesis.settings(max_examples=EXAMPLES_MAX, deadline=None)
def test_any_target_goes_up(module_sides, path, query, prefix):
    settled(module_sides)
    target = b"/v1/" + path + (b"" if query is None else b"?" + query)
    sent = Sent(b"GET", target, ((b"X-Api-Key", CALLER_KEY),), framing="none")
    straight, through = module_sides.ask(sent, prefix)
    assert (straight.status, through) == (200, straight)
    assert module_sides.behind.received[-1].target == target


@hypothesis.given(body=st.binary(max_size=3_000), framing=st.sampled_from(["content-length", "chunked"]))
@hypothesis.settings(max_examples=EXAMPLES_MAX, deadline=None)
def test_any_body_goes_up_and_comes_down(module_sides, body, framing):
    module_sides.level()
    framed = ((b"content-length", b"%d" % len(body)),) if framing == "content-length" else ()
    module_sides.reply_next(CannedReply(headers=framed, chunks=(body,) if body else ()))
    sent = Sent(b"PUT", b"/v1/any", ((b"X-Api-Key", CALLER_KEY),), body, framing)
    straight, through = module_sides.ask(sent)
    assert (straight.status, straight.body, through) == (200, body, straight)
    straight_up, through_up = module_sides.received()
    assert through_up == straight_up
