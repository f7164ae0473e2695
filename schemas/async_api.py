"""Says in AsyncAPI 3.0 which topics there are and what a record on them holds; pure."""

import inspect

from schemas import json_schema
from schemas.codec import STRUCTS, VERSIONS, KindName
from schemas.json_schema import JsonObject
from schemas.topics import Topic, all_topics

# The edition of the contract: that of the newest entry in schemas/CHANGELOG.md.
EDITION = "1.3.0"
KAFKA_BINDING = "0.5.0"
_JSON = "application/json"
_JSON_SCHEMA = "application/schema+json;version=draft-2020-12"


def schema_path(kind: KindName) -> str:
    """Give the place of a kind's JSON Schema, from the folder of this package."""
    return f"json/{kind}.v{VERSIONS[kind]}.schema.json"


def document() -> JsonObject:
    """Write the whole document: a channel for each topic, a message for each kind."""
    topics = all_topics()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tollhouse events",
            "version": EDITION,
            "description": "What Tollhouse publishes on Kafka: a JSON event in each record, CloudEvents 1.0 "
            "in its headers (binary mode). Members and topics are added, never renamed or removed: ignore "
            "what is unknown.",
        },
        "defaultContentType": _JSON,
        "channels": {topic.name: _channel(topic) for topic in topics},
        "components": {"messages": {kind: _message(kind, topics) for kind in STRUCTS}},
    }


def _channel(topic: Topic) -> JsonObject:
    configuration: JsonObject = {
        "cleanup.policy": [topic.cleanup],
        "max.message.bytes": topic.max_message_bytes,
    }
    if topic.cleanup == "delete":
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": f"Events of the kind {topic.kind}, keyed by {topic.key}.",
        "messages": {topic.kind: {"$ref": f"#/components/messages/{topic.kind}"}},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _message(kind: KindName, topics: tuple[Topic, ...]) -> JsonObject:
    return {
        "title": kind,
        "description": inspect.cleandoc(STRUCTS[kind].__doc__ or ""),
        "contentType": _JSON,
        "headers": _headers(kind),
        "payload": {"schemaFormat": _JSON_SCHEMA, "schema": {"$ref": f"./{schema_path(kind)}"}},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": _key(kind, topics)},
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _key(kind: KindName, topics: tuple[Topic, ...]) -> str:
    if kind == "dead_letter":
        return "the key of the record that was set aside"
    return " or ".join(dict.fromkeys(topic.key for topic in topics if topic.kind == kind))


def _headers(kind: KindName) -> JsonObject:
    """Describe what codec.headers writes; only a traceparent may be missing."""
    always: JsonObject = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "the same for every copy of this event, with ce_source"},
        "ce_type": {"type": "string", "const": f"tollhouse.{kind}.v{VERSIONS[kind]}"},
        "ce_source": {"type": "string", "format": "uri-reference", "description": "who published it"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "what the event is about"},
        "ce_dataschema": {"type": "string", "const": json_schema.urn_of(kind)},
        "content-type": {"type": "string", "const": _JSON},
    }
    traceparent = {"type": "string", "description": "W3C trace context, where the exchange has one"}
    return {
        "type": "object",
        "properties": {**always, "traceparent": traceparent},
        "required": list(always),
    }
