"""Says in JSON Schema what the encoder writes for a kind; pure, and never closed to members yet to come."""

import inspect
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.inspect import (
    BoolType,
    BytesType,
    DateTimeType,
    DecimalType,
    DictType,
    Field,
    IntType,
    LiteralType,
    NoneType,
    RawType,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from schemas.codec import STRUCTS, VERSIONS, KindName

DIALECT = "https://json-schema.org/draft/2020-12/schema"

JsonObject = dict[str, object]

# Compared whole: a type that one day has bounds is not found here, so that its bounds cannot get lost.
_SCALARS: Sequence[tuple[Type, JsonObject]] = (
    (StrType(), {"type": "string"}),
    (IntType(), {"type": "integer"}),
    (BoolType(), {"type": "boolean"}),
    (NoneType(), {"type": "null"}),
    (DecimalType(), {"type": "string", "format": "decimal"}),
    (DateTimeType(), {"type": "string", "format": "date-time"}),
    (BytesType(), {"type": "string", "contentEncoding": "base64"}),
    (RawType(), {}),
)


def urn_of(kind: KindName) -> str:
    """Name the schema of a kind, as the header ce_dataschema does."""
    return f"urn:tollhouse:schema:{kind}:v{VERSIONS[kind]}"


def schema_of(kind: KindName) -> JsonObject:
    """Write the schema of one kind; the types within it stand under $defs, by name."""
    event = _struct(STRUCTS[kind])
    within = {each.cls.__name__: each for each in _structs_within(event)}
    schema: JsonObject = {"$schema": DIALECT, "$id": urn_of(kind), "title": kind, **_object(event)}
    if within:
        schema["$defs"] = {name: _object(within[name]) for name in sorted(within)}
    return schema


def type_schema(info: Type) -> JsonObject:
    """Write the schema of one type; TypeError for one that is not known here."""
    if isinstance(info, StructType):
        return {"$ref": f"#/$defs/{info.cls.__name__}"}
    if isinstance(info, LiteralType):
        return {"type": "string", "enum": sorted(str(word) for word in info.values)}
    if isinstance(info, UnionType):
        return {"anyOf": [type_schema(each) for each in info.types]}
    if isinstance(info, VarTupleType):
        return {"type": "array", "items": type_schema(info.item_type)}
    if isinstance(info, TupleType):
        items = [type_schema(each) for each in info.item_types]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(info, DictType):
        return {"type": "object", "additionalProperties": type_schema(info.value_type)}
    return dict(_scalar(info))


def default_of(field: Field) -> object:
    """Give the JSON value that stands for a member left out; only for a field that may be."""
    assert not field.required
    factory = field.default_factory
    value: object = field.default if factory is msgspec.NODEFAULT else factory()
    return msgspec.json.decode(msgspec.json.encode(value))


def _struct(cls: type) -> StructType:
    info = type_info(cls)
    assert isinstance(info, StructType)
    return info


def _structs_within(info: Type) -> Iterator[StructType]:
    """Find every type below this one, itself left out."""
    for inner in _parts(info):
        if isinstance(inner, StructType):
            yield inner
        yield from _structs_within(inner)


def _parts(info: Type) -> Sequence[Type]:
    if isinstance(info, StructType):
        return [field.type for field in info.fields]
    if isinstance(info, UnionType):
        return info.types
    if isinstance(info, VarTupleType):
        return [info.item_type]
    if isinstance(info, TupleType):
        return info.item_types
    if isinstance(info, DictType):
        return [info.value_type]
    return ()


def _object(info: StructType) -> JsonObject:
    return {
        "description": inspect.cleandoc(info.cls.__doc__ or ""),
        "type": "object",
        "properties": {**_tag(info), **{field.encode_name: _member(field) for field in info.fields}},
        "required": [*_tag(info), *(field.encode_name for field in info.fields if field.required)],
    }


def _tag(info: StructType) -> JsonObject:
    """Describe the member by which one of several types is told from the others."""
    return {} if info.tag_field is None else {info.tag_field: {"type": "string", "enum": [info.tag]}}


def _member(field: Field) -> JsonObject:
    schema = type_schema(field.type)
    return schema if field.required else {**schema, "default": default_of(field)}


def _scalar(info: Type) -> Mapping[str, object]:
    for known, schema in _SCALARS:
        if info == known:
            return schema
    raise TypeError(f"{info} has no JSON Schema here yet")
