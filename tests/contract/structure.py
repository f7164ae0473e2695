"""Checks a JSON value against the part of JSON Schema that our schemas use; another keyword is a fault."""

from collections.abc import Iterator, Mapping

_TELLING = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "format"})
_SEEN = frozenset({"minItems", "maxItems", "required", "contentEncoding"})
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def faults(value: object, schema: Mapping, root: Mapping, where: str = "$") -> Iterator[str]:
    for keyword, argument in schema.items():
        if keyword in _TELLING or keyword in _SEEN:
            continue
        check = _CHECKS.get(keyword)
        if check is None:
            yield f"{where}: the keyword {keyword} is unknown to this check"
            return
        yield from check(value, argument, root, where)
    if isinstance(value, dict):
        yield from (f"{where}.{name}: missing" for name in schema.get("required", ()) if name not in value)
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get(
        "maxItems", len(value)
    ):
        yield f"{where}: {len(value)} items"


def _type(value, name, _root, where):
    is_bool_as_int = name == "integer" and isinstance(value, bool)
    if not isinstance(value, _TYPES[name]) or is_bool_as_int:
        yield f"{where}: not of type {name}"


def _properties(value, members, root, where):
    """Beyond JSON Schema: a member that the schema does not name is a fault of the schema."""
    for name, each in value.items():
        if name not in members:
            yield f"{where}.{name}: not in the schema"
        else:
            yield from faults(each, members[name], root, f"{where}.{name}")


def _additional(value, schema, root, where):
    for name, each in value.items():
        yield from faults(each, schema, root, f"{where}.{name}")


def _items(value, schema, root, where):
    for place, each in enumerate(value):
        yield from faults(each, schema, root, f"{where}[{place}]")


def _prefix_items(value, schemas, root, where):
    for place, (each, schema) in enumerate(zip(value, schemas, strict=False)):
        yield from faults(each, schema, root, f"{where}[{place}]")


def _enum(value, words, _root, where):
    if value not in words:
        yield f"{where}: {value} is not in the enum"


def _any_of(value, schemas, root, where):
    if all(any(faults(value, schema, root, where)) for schema in schemas):
        yield f"{where}: fits none of anyOf"


def _ref(value, ref, root, where):
    yield from faults(value, root["$defs"][ref.removeprefix("#/$defs/")], root, where)


_CHECKS = {
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "prefixItems": _prefix_items,
    "enum": _enum,
    "anyOf": _any_of,
    "$ref": _ref,
}
