"""A redirect leads back to this gateway, however it is written, or to nowhere."""

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.edge.redirects import Redirects
from services.edge.results_url import CannotRewrite

HERE = "http://gateway:4000/anthropic"
TARGET = b"/v1/files/file_1/content?a=1"


def scope_of(path="/anthropic/v1/files/file_1/content", host=b"gateway:4000"):
    return {"scheme": "http", "headers": [(b"host", host)], "raw_path": path.encode()}


def led(location, status=307, *, upstream="https://api.anthropic.com", target=TARGET, scope=None, **config):
    redirects = Redirects(
        scope or scope_of(), EdgeConfig(upstream=UpstreamConfig(base_url=upstream), **config), target
    )
    return redirects.led_here(status, [(b"x-one", b"1"), (b"Location", location), (b"x-two", b"2")])


def led_to(*args, **kwargs):
    first, (name, value), last = led(*args, **kwargs)
    assert (first, name, last) == ((b"x-one", b"1"), b"Location", (b"x-two", b"2"))
    return value.decode()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (b"https://api.anthropic.com/v1/b?x=%2F#f", HERE + "/v1/b?x=%2F#f"),
        (b"HTTPS://API.ANTHROPIC.COM:443/v1/b", HERE + "/v1/b"),
        (b"//api.anthropic.com/v1/b", HERE + "/v1/b"),
        (b"/v1/b", HERE + "/v1/b"),
        (b"/", HERE + "/"),
        (b"other", HERE + "/v1/files/file_1/other"),
        (b"../file_2", HERE + "/v1/files/file_2"),
        (b"../../../../../x", HERE + "/x"),
        (b"?b=2", HERE + "/v1/files/file_1/content?b=2"),
        (b"#f", HERE + "/v1/files/file_1/content?a=1#f"),
        (b"", HERE + "/v1/files/file_1/content?a=1"),
        (b" /v1/b ", HERE + "/v1/b"),
        (b"///storage.example/x", HERE + "/storage.example/x"),
    ],
)
def test_a_location_below_upstream_is_the_same_below_the_gateway(location, expected, status):
    assert led_to(location, status) == expected


@pytest.mark.parametrize(
    ("location", "what"),
    [
        (b"https://storage.example/v1/b", "storage.example"),
        (b"//storage.example/v1/b", "storage.example"),
        (b"http://api.anthropic.com/v1/b", "api.anthropic.com"),
        (b"https://api.anthropic.com:8443/v1/b", "api.anthropic.com"),
        (b"https://api.anthropic.com.storage.example/", "api.anthropic.com.storage.example"),
        (b"https://api.anthropic.com@storage.example/", "no address"),
        (b"https://user@api.anthropic.com/v1", "no address"),
        (b"https:storage.example", "no address"),
        (b"https:/storage.example", "no address"),
        (b"javascript:alert(1)", "no address"),
        (b"/\\storage.example", "no address"),
        (b"\\\\storage.example", "no address"),
        (b"https://api.anthropic.com\\@storage.example/", "no address"),
        (b"https://api.anthropic.com/v1/../x", "no address"),
        (b"/v1/%2e%2E/x", "no address"),
        (b"https://api.anthropic.com:x/", "no address"),
        (b"https://[api.anthropic.com/", "no address"),
        (b"/v1/\xc3\xa9", "no address"),
        (b"/v1/a b", "no address"),
        (b"ht\ttps://storage.example", "no address"),
    ],
)
def test_a_location_anywhere_else_does_not_pass(location, what):
    with pytest.raises(CannotRewrite) as raised:
        led(location)
    assert str(raised.value) == what


def test_below_a_base_path_nothing_beside_it_is_upstreams():
    below = {"upstream": "https://proxy.example/claude/", "target": b"/claude/v1/models"}
    assert led_to(b"/claude/v1/b", **below) == HERE + "/v1/b"
    assert led_to(b"b", **below) == HERE + "/v1/b"
    for beside in (b"/v1/b", b"../../x", b"/claudette/v1", b"https://proxy.example/"):
        with pytest.raises(CannotRewrite):
            led(beside, **below)


def test_it_leads_to_the_public_address_where_there_is_one():
    assert (
        led_to(b"/v1/b", public_url="https://llm.example/anthropic/") == "https://llm.example/anthropic/v1/b"
    )
    assert led_to(b"/v1/b", scope=scope_of("/v1/models")) == "http://gateway:4000/v1/b"


def test_a_request_whose_host_names_none_is_led_nowhere():
    with pytest.raises(CannotRewrite):
        led(b"/v1/b", scope=scope_of(host=b"a b"))


@pytest.mark.parametrize("status", [200, 201, 202, 299, 400])
def test_what_nobody_follows_stays(status):
    assert led_to(b"https://storage.example/", status) == "https://storage.example/"


def test_every_location_of_several_counts():
    redirects = Redirects(scope_of(), EdgeConfig(), TARGET)
    both = [(b"location", b"/a"), (b"location", b"/b")]
    assert redirects.led_here(302, both) == [
        (b"location", HERE.encode() + b"/a"),
        (b"location", HERE.encode() + b"/b"),
    ]
    with pytest.raises(CannotRewrite):
        redirects.led_here(302, [*both, (b"location", b"https://storage.example/")])
