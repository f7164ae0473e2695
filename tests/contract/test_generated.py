"""The committed JSON Schemas and the AsyncAPI document are what the types say."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from schemas import codec, generate, json_schema
from schemas.codec import KindName
from schemas.topics import all_topics
from tests.contract.golden import KINDS, SCHEMAS, Example, examples, name_of

BASE64 = {"type": "string", "contentEncoding": "base64"}


def test_the_committed_files_are_up_to_date():
    assert generate.out_of_date(SCHEMAS) == [], "run: make schemas"


def test_generating_twice_gives_the_same_bytes():
    assert generate.files() == generate.files()


def test_every_file_is_utf8_json_with_one_newline_at_its_end():
    for content in generate.files().values():
        text = content.decode()
        assert json.loads(text)
        assert text.endswith("}\n") and not text.endswith("\n\n")


def test_generating_writes_what_is_missing_and_leaves_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    of_an_earlier_version = tmp_path / "json" / "heartbeat.v0.schema.json"
    of_an_earlier_version.parent.mkdir()
    of_an_earlier_version.write_text("{}\n")
    assert generate.main([], tmp_path) == 0
    assert {path: (tmp_path / path).read_bytes() for path in generate.files()} == generate.files()
    assert of_an_earlier_version.read_text() == "{}\n"
    assert capsys.readouterr().out.splitlines() == [f"wrote schemas/{path}" for path in generate.files()]
    assert generate.main([], tmp_path) == 0
    assert capsys.readouterr().out == ""


def test_check_names_what_is_out_of_date_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    generate.main([], tmp_path)
    (tmp_path / "asyncapi.json").write_text("{}\n")
    (tmp_path / "json" / "heartbeat.v1.schema.json").unlink()
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.splitlines() == [
        "out of date: schemas/json/heartbeat.v1.schema.json (run: make schemas)",
        "out of date: schemas/asyncapi.json (run: make schemas)",
    ]
    assert (tmp_path / "asyncapi.json").read_text() == "{}\n"
    assert not (tmp_path / "json" / "heartbeat.v1.schema.json").exists()


def test_check_is_silent_where_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    generate.main([], tmp_path)
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 0
    assert capsys.readouterr() == ("", "")


def test_the_head_of_a_schema():
    schema = json.loads(generate.files()["json/heartbeat.v1.schema.json"])
    assert {name: schema[name] for name in schema if name not in ("properties", "required")} == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tollhouse:schema:heartbeat:v1",
        "title": "heartbeat",
        "description": "Proof of life; `exchange_seq` is the last number given out, so that a gap can be "
        "seen from outside.\n\n`shed` of them were served without a record, as the spool was full and the "
        "edge is told to go on then.\nEvery number below `oldest_open_seq` has closed; 0 where none is open, "
        "or an earlier release does not say.",
        "type": "object",
    }


@pytest.mark.parametrize(
    ("kind", "member", "expected"),
    [
        ("heartbeat", "edge_id", {"type": "string"}),
        ("heartbeat", "at", {"type": "string", "format": "date-time"}),
        ("heartbeat", "spool_bytes", {"type": "integer"}),
        ("request_started", "is_stream", {"type": "boolean", "default": False}),
        ("rated_usage", "cost_usd", {"type": "string", "format": "decimal"}),
        ("rated_usage", "cost_lines", {"type": "array", "items": {"$ref": "#/$defs/CostLine"}}),
        ("usage_recorded", "usage", {"default": None}),
        (
            "usage_recorded",
            "usage_status",
            {"type": "string", "enum": ["estimated", "final", "none", "partial"]},
        ),
        ("dead_letter", "key", {"anyOf": [BASE64, {"type": "null"}]}),
        (
            "dead_letter",
            "headers",
            {
                "type": "array",
                "items": {
                    "type": "array",
                    "prefixItems": [{"type": "string"}, BASE64],
                    "minItems": 2,
                    "maxItems": 2,
                },
                "default": [],
            },
        ),
    ],
)
def test_how_a_type_is_told(kind: KindName, member: str, expected: dict[str, object]):
    schema = json.loads(generate.files()[f"json/{kind}.v1.schema.json"])
    assert schema["properties"][member] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_required_where_it_has_no_default(kind: KindName):
    schema = json.loads(generate.files()[f"json/{kind}.v1.schema.json"])
    for each in (schema, *schema.get("$defs", {}).values()):
        members = each["properties"]
        assert each["required"] == [name for name in members if "default" not in members[name]]


class _Bounded(msgspec.Struct):
    size: Annotated[int, msgspec.Meta(ge=0)]


def test_a_type_whose_bounds_would_get_lost_is_refused():
    (field,) = msgspec.inspect.type_info(_Bounded).fields
    with pytest.raises(TypeError, match="has no JSON Schema here yet"):
        json_schema.type_schema(field.type)


@pytest.mark.parametrize("kind", KINDS)
def test_no_schema_forbids_members_of_a_later_day(kind: KindName):
    assert b'"additionalProperties": false' not in generate.files()[f"json/{kind}.v1.schema.json"]


def test_every_topic_is_a_channel_with_its_key_and_its_kind():
    document = json.loads(generate.files()["asyncapi.json"])
    assert {
        name: (channel["description"], list(channel["messages"]), channel["bindings"]["kafka"]["partitions"])
        for name, channel in document["channels"].items()
    } == {
        topic.name: (
            f"Events of the kind {topic.kind}, keyed by {topic.key}.",
            [topic.kind],
            topic.partitions,
        )
        for topic in all_topics()
    }


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    document = json.loads(generate.files()["asyncapi.json"])
    messages = document["components"]["messages"]
    for channel in document["channels"].values():
        for kind, message in channel["messages"].items():
            assert message == {"$ref": f"#/components/messages/{kind}"}
            payload = messages[kind]["payload"]["schema"]["$ref"]
            assert (SCHEMAS / payload).is_file()


@pytest.mark.parametrize("example", examples(), ids=name_of)
def test_the_asyncapi_document_tells_the_headers_that_the_codec_writes(example: Example):
    message = json.loads(generate.files()["asyncapi.json"])["components"]["messages"][example.kind]
    written = dict(codec.headers(example.event, "2026-11-22T12:00:00Z"))
    described = message["headers"]
    assert list(written) == described["required"]
    constants = {name: each["const"] for name, each in described["properties"].items() if "const" in each}
    assert constants == {name: written[name].decode() for name in constants}
    assert set(constants) == {"ce_specversion", "ce_type", "ce_dataschema", "content-type"}


def test_the_edition_is_that_of_the_newest_entry_in_the_changelog():
    document = json.loads(generate.files()["asyncapi.json"])
    headings = [
        line for line in (SCHEMAS / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")
    ]
    released = [line for line in headings if not line.startswith("## [Unreleased]")]
    assert released[0].startswith(f"## [{document['info']['version']}] - ")
