"""What a request is for, by its raw path alone, and what of the path reaches upstream: every byte."""

import pytest

from services.edge.targets import TARGET_BYTES_MAX, Target, batch_id_of, creates_batch, is_hello, target_of

CLASSIFIED = [
    ("POST", "/v1/messages", "messages", "/v1/messages"),
    ("GET", "/v1/messages", "other", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens", "count_tokens", "/v1/messages/count_tokens"),
    ("POST", "/v1/messages/batches", "batches", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches/msgbatch_1", "batches", "/v1/messages/batches/{id}"),
    ("POST", "/v1/messages/batches/msgbatch_1/cancel", "batches", "/v1/messages/batches/{id}/cancel"),
    ("GET", "/v1/messages/batches/msgbatch_1/results", "batches", "/v1/messages/batches/{id}/results"),
    ("GET", "/v1/models", "models", "/v1/models"),
    ("GET", "/v1/models/claude-sonnet-5-5", "models", "/v1/models/{id}"),
    ("POST", "/v1/files", "files", "/v1/files"),
    ("DELETE", "/v1/files/file_1", "files", "/v1/files/{id}"),
    ("GET", "/v1/files/file_1/content", "files", "/v1/files/{id}/content"),
    ("GET", "/v1/skills", "skills", "/v1/skills"),
    ("GET", "/v1/skills/skill_1", "skills", "/v1/skills/{id}"),
    ("GET", "/v1/skills/skill_1/versions", "skills", "/v1/skills/{id}/versions"),
    ("GET", "/v1/skills/skill_1/versions/2", "skills", "/v1/skills/{id}/versions/{version}"),
    ("GET", "/v1/skills/skill_1/versions/2/content", "skills", "/v1/skills/{id}/versions/{version}/content"),
    ("POST", "/v1/complete", "other", "/v1/complete"),
    ("POST", "/v1/messages/", "messages", "/v1/messages"),
    ("POST", "/v1/%6Dessages", "messages", "/v1/messages"),
    ("POST", "/v1//models/..//messages", "messages", "/v1/messages"),
    ("GET", "/v1/files/a%2Fb", "files", "/v1/files/{id}"),
    ("GET", "/v1/organizations/0f1e2d3c/members", "other", "/v1/organizations/*"),
    ("GET", "/v1/0F1E2D3C", "other", "/v1/*"),
]


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
@pytest.mark.parametrize(("method", "path", "operation", "endpoint"), CLASSIFIED)
def test_a_path_is_classified_with_and_without_the_prefix(method, path, operation, endpoint, prefix):
    target = target_of(method, (prefix + path).encode(), b"", b"")
    assert target == Target(path.encode(), operation, endpoint)


def test_behind_the_prefix_every_path_is_upstreams():
    assert target_of("HEAD", b"/anthropic/api/hello", b"", b"") == Target(
        b"/api/hello", "other", "/api/hello"
    )


@pytest.mark.parametrize(
    "path",
    [
        b"/v10/messages",
        b"/v1",
        b"/v1beta/messages",
        b"/anthropic",
        b"/anthropics/v1/messages",
        b"/",
        b"/%76%31/x",
    ],
)
def test_what_only_looks_like_a_route_is_refused(path):
    assert target_of("POST", path, b"", b"") == "unknown_route"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_a_method_that_would_show_the_gateways_credential_or_open_a_tunnel_is_refused(method):
    assert target_of(method, b"/v1/models", b"", b"") == "method_unserved"


def test_only_the_probe_itself_is_a_hello():
    assert [is_hello(method, b"/anthropic/api/hello") for method in ("HEAD", "GET", "POST")] == [
        True,
        True,
        False,
    ]
    others = (b"/anthropic/api/hello/", b"/anthropic//api/hello", b"/anthropic/api/hello2", b"/v1/api/hello")
    assert not any(is_hello("GET", path) for path in others)


def test_the_query_goes_up_byte_for_byte():
    query = b"beta=true&beta=&a=%2F+%zz&b=1;2&&"
    assert target_of("GET", b"/v1/models", query, b"") == Target(
        b"/v1/models?" + query, "models", "/v1/models"
    )


def test_the_path_goes_up_byte_for_byte_below_the_base_path():
    target = target_of("GET", b"/anthropic//v1/files/a%2Fb//%E4%bd/", b"x=1", b"/base")
    assert target == Target(b"/base//v1/files/a%2Fb//%E4%bd/?x=1", "other", "/v1/files/*")


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/../admin",
        b"/v1/files/..",
        b"/anthropic/../x",
        b"/v1/./files",
        b"/v1/%2e%2E/x",
        b"/v1/.%2e/x",
        b"/v1/%2e",
        b"/v1/..%2fx",
        b"/v1/a%2F..%2F..%2Fx",
        b"/v1/a\\..\\x",
        b"/v1/a%5c..",
    ],
)
def test_dot_segments_are_refused_below_a_base_path_and_pass_without_one(path):
    assert target_of("GET", path, b"", b"/base") == "target_leaves_base"
    assert target_of("GET", path, b"", b"").raw == path.removeprefix(b"/anthropic")


@pytest.mark.parametrize(
    "path", [b"/v1/files/a..b", b"/v1/...", b"/v1/.hidden", b"/v1/files/x.", b"/v1/a%2e%2eb"]
)
def test_dots_within_a_segment_are_no_dot_segments(path):
    assert target_of("GET", path, b"", b"/base").raw == b"/base" + path


def test_dots_in_the_query_leave_no_base():
    assert target_of("GET", b"/v1/models", b"a=/../", b"/base").raw == b"/base/v1/models?a=/../"


def test_a_target_may_be_as_long_as_the_limit_and_no_longer():
    longest = b"/v1/" + b"a" * (TARGET_BYTES_MAX - 4)
    assert target_of("GET", longest, b"", b"") == Target(longest, "other", "/v1/*")
    assert target_of("GET", longest + b"a", b"", b"") == "target_too_long"
    assert target_of("GET", b"/v1/models", b"a" * TARGET_BYTES_MAX, b"") == "target_too_long"


@pytest.mark.parametrize(("path", "query"), [("/v1/ä".encode(), b""), (b"/v1/models", "q=ä".encode())])
def test_a_target_beyond_ascii_is_refused(path, query):
    assert target_of("GET", path, query, b"") == "target_not_ascii"


@pytest.mark.parametrize(
    ("path", "batch_id"),
    [
        (b"/anthropic/v1/messages/batches/msgbatch_1/results", "msgbatch_1"),
        (b"/v1/messages//batches/./msg%62atch_1/results", "msgbatch_1"),
        (b"/v1/messages/batches/msgbatch_1", "msgbatch_1"),
        (b"/v1/messages/batches/msgbatch_1/cancel/", "msgbatch_1"),
        (b"/v1/messages/batches/msgbatch_1/a/call/of/tomorrow", "msgbatch_1"),
        (b"/v1/messages/batches/a%2Fb/results", ""),
        (b"/v1/messages/batches%2Fmsgbatch_1", ""),
        (b"/v1/messages%5Cbatches/msgbatch_1", ""),
        (b"/v1/messages/batches\\msgbatch_1", ""),
        (b"/v1/messages/batches%252Fmsgbatch_1", ""),
        (b"/v1/messages/batches/msgbatch%201", ""),
        (b"/v1/messages/batches/" + b"a" * 129, ""),
        (b"/v1/messages/batches/msgbatch_1/results%0A%0A", "msgbatch_1"),
        (b"/v1/messages/BATCHES/msgbatch_1", ""),
        (b"/v1/messages/batches;x/msgbatch_1", ""),
        (b"/v1/messages/batches%00/msgbatch_1", ""),
        (b"/v1/messages/batches%20", ""),
        (b"/v1/messages/batches%3Flimit=1", ""),
        (b"/v1/messages/batchesque", ""),
        (b"/v1/messages/batches", None),
        (b"/v1/messages/batches/", None),
        (b"/v1/models", None),
    ],
)
def test_the_batch_that_a_call_is_about_is_known_by_every_spelling(path, batch_id):
    assert batch_id_of(target_of("GET", path, b"beta=true", b"")) == batch_id


@pytest.mark.parametrize(
    ("method", "path", "creates"),
    [
        ("POST", b"/v1/messages/batches", True),
        ("POST", b"/v1/messages/%62atches/", True),
        ("GET", b"/v1/messages/batches", False),
        ("POST", b"/v1/messages/batches/x/cancel", False),
    ],
)
def test_a_batch_is_made_by_one_call(method, path, creates):
    assert creates_batch(method, target_of(method, path, b"", b"")) is creates
