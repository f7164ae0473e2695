"""Reads a document of OpenAPI 3.1: what breaks the rules of that version, and what is not as it says."""

import re
from datetime import datetime
from typing import NamedTuple

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# Of each object of the specification: the fields that it may have, and those that it must have.
OBJECTS = {
    "document": (
        "openapi info jsonSchemaDialect servers paths webhooks components security tags externalDocs",
        "openapi info paths",
    ),
    "info": ("title summary description termsOfService contact license version", "title version"),
    "server": ("url description variables", "url"),
    "path": (f"summary description servers parameters {' '.join(METHODS)}", ""),
    "operation": (
        "tags summary description externalDocs operationId parameters requestBody responses callbacks "
        "deprecated security servers",
        "responses",
    ),
    "parameter": (
        "name in description required deprecated allowEmptyValue style explode allowReserved schema",
        "name in schema",
    ),
    "body": ("description content required", "content"),
    "media": ("schema example examples encoding", "schema"),
    "response": ("description headers content links", "description"),
    "components": ("schemas responses parameters requestBodies headers securitySchemes", ""),
    "security": ("type description name in scheme bearerFormat flows openIdConnectUrl", "type"),
    # JSON Schema has more; what is not here is not checked below either, and so may not be used.
    "schema": (
        "$ref type properties required additionalProperties items oneOf format default title description",
        "",
    ),
}
TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
NAME = re.compile(r"[a-zA-Z0-9._-]+")
TO_SCHEMA = "#/components/schemas/"


class Route(NamedTuple):
    """A method and a path as the document has them."""

    method: str
    path: str


class Document:
    """A document, its faults, and the routes that need a credential."""

    def __init__(self, document):
        self.document = document
        self.schemas = document["components"]["schemas"]
        self._operations = {
            Route(method.upper(), path): item[method]
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item
        }
        self.routes = {route: each for route, each in self._operations.items() if each.get("security")}

    def faults(self):
        """Say what breaks the rules of OpenAPI 3.1."""
        yield from self._head_faults()
        for name, schema in self.schemas.items():
            if not NAME.fullmatch(name):
                yield f"schemas: {name} is no name"
            yield from self._schema_faults(schema, f"schemas.{name}")
        referred = set(re.findall(rf"{TO_SCHEMA}([^']+)'", repr(self.document)))
        if referred != set(self.schemas):
            yield f"schemas: those referred to are others: {referred ^ set(self.schemas)}"
        for path, item in self.document["paths"].items():
            yield from _fields("path", item, path)
            if not path.startswith("/"):
                yield f"{path}: begins with no /"
        for route, operation in self._operations.items():
            yield from self._operation_faults(route, operation)
        names = [each["operationId"] for each in self._operations.values()]
        if len(names) != len(set(names)):
            yield "operationId: one stands twice"

    def _head_faults(self):
        document = self.document
        yield from _fields("document", document, "document")
        yield from _fields("info", document["info"], "info")
        yield from _fields("components", document["components"], "components")
        for server in document.get("servers", []):
            yield from _fields("server", server, "servers")
        if not re.fullmatch(r"3\.1\.\d+", document["openapi"]):
            yield "openapi: is another version"
        for name, scheme in document["components"]["securitySchemes"].items():
            yield from _fields("security", scheme, f"securitySchemes.{name}")
            if scheme["type"] != "http" or "scheme" not in scheme:
                yield f"securitySchemes.{name}: is of a sort that is not checked here"

    def _operation_faults(self, route, operation):
        at = f"{route.method} {route.path}"
        yield from _fields("operation", operation, at)
        yield from self._parameter_faults(route, operation.get("parameters", []), at)
        for needed in operation.get("security", []):
            if not set(needed) <= set(self.document["components"]["securitySchemes"]):
                yield f"{at}: has a security that is not there"
        if "requestBody" in operation:
            yield from _fields("body", operation["requestBody"], f"{at} body")
            yield from self._content_faults(operation["requestBody"], f"{at} body")
        if not operation["responses"]:
            yield f"{at}: answers nothing"
        for status, response in operation["responses"].items():
            yield from _fields("response", response, f"{at} {status}")
            yield from self._content_faults(response, f"{at} {status}")
            if not re.fullmatch(r"[1-5]\d\d", status):
                yield f"{at}: {status} is no status"

    def _parameter_faults(self, route, parameters, at):
        for each in parameters:
            where = f"{at} {each['name']}"
            yield from _fields("parameter", each, where)
            yield from self._schema_faults(each["schema"], where)
            if each["in"] not in ("query", "path") or (each["in"] == "path" and each["required"] is not True):
                yield f"{where}: is no parameter"
            if each["in"] != "query" and {"allowEmptyValue", "allowReserved"} & set(each):
                yield f"{where}: says what only a parameter of the query may"
        if len({(each["name"], each["in"]) for each in parameters}) != len(parameters):
            yield f"{at}: a parameter stands twice"
        in_path = {each["name"] for each in parameters if each["in"] == "path"}
        if set(re.findall(r"\{(.*?)\}", route.path)) != in_path:
            yield f"{at}: the parameters of the path are others"

    def _content_faults(self, described, at):
        for media_type, media in described["content"].items():
            yield from _fields("media", media, f"{at} {media_type}")
            yield from self._schema_faults(media["schema"], at)

    def _schema_faults(self, schema, at):
        yield from _fields("schema", schema, at)
        if "$ref" in schema and schema["$ref"].removeprefix(TO_SCHEMA) not in self.schemas:
            yield f"{at}: refers to nothing"
        types = _types(schema)
        if not set(types) <= set(TYPES) or len(types) != len(set(types)):
            yield f"{at}: {types} are no types"
        required = schema.get("required", [])
        if len(required) != len(set(required)) or not set(required) <= set(schema.get("properties", ())):
            yield f"{at}: requires what it does not have"
        inner = {**schema.get("properties", {}), "[]": schema.get("items"), "{}": schema.get(_REST)}
        inner |= {f"oneOf.{number}": each for number, each in enumerate(schema.get("oneOf", ()))}
        for name, each in inner.items():
            if isinstance(each, dict):
                yield from self._schema_faults(each, f"{at}.{name}")
            elif each is not None and not (name == "{}" and isinstance(each, bool)):
                yield f"{at}.{name}: is no schema"
        if "oneOf" in schema and not schema["oneOf"]:
            yield f"{at}: has no way to be"

    def body_of(self, route):
        """Give the schema of a request's body, or None, and whether it must be there."""
        body = self.routes[route].get("requestBody")
        return (None, False) if body is None else (_schema_of(body), body.get("required", False))

    def statuses(self, route):
        """Give the statuses that are described."""
        return {int(status) for status in self.routes[route]["responses"]}

    def request_faults(self, route, query, body):
        """Say where a request is not as described; `body` is a list that holds it, or nothing."""
        parameters = [each for each in self.routes[route].get("parameters", []) if each["in"] == "query"]
        known = {each["name"]: each for each in parameters}
        yield from (f"query.{name}: is not there" for name in query if name not in known)
        yield from (f"query.{name}: is missing" for name, each in known.items() if _lacks(each, query))
        for name, value in query.items():
            if name in known:
                yield from self.value_faults(known[name]["schema"], value, f"query.{name}")
        schema, is_required = self.body_of(route)
        if not body and is_required:
            yield "body: is missing"
        elif body and schema is None:
            yield "body: there is none"
        elif body:
            yield from self.value_faults(schema, body[0], "body")

    def answer_faults(self, route, answer):
        """Say where an answer is not as described; what is not described may not stand in it."""
        response = self.routes[route]["responses"].get(str(answer.status_code))
        if response is None:
            yield f"status {answer.status_code}: is not described"
        elif list(response["content"]) != [answer.headers["content-type"]]:
            yield f"content-type: is {answer.headers['content-type']}"
        else:
            yield from self.value_faults(_schema_of(response), answer.json(), "answer", is_closed=True)

    def value_faults(self, schema, value, at, is_closed=False):
        """Say where a value is not as a schema says; with `is_closed` an object has nothing more."""
        schema = self._resolved(schema)
        if "oneOf" in schema:
            found = [list(self.value_faults(each, value, at, is_closed)) for each in schema["oneOf"]]
            if sum(not each for each in found) != 1:
                yield f"{at}: fits {sum(not each for each in found)} of {len(found)}: {found}"
        if "type" in schema and not any(_is(kind, value) for kind in _types(schema)):
            yield f"{at}: is no {schema['type']}: {value!r:.80}"
        elif isinstance(value, dict):
            yield from self._object_faults(schema, value, at, is_closed)
        elif isinstance(value, list) and "items" in schema:
            for number, each in enumerate(value):
                yield from self.value_faults(schema["items"], each, f"{at}[{number}]", is_closed)
        elif "format" in schema and not _is_time(schema["format"], value):
            yield f"{at}: is no {schema['format']}: {value!r:.80}"

    def _object_faults(self, schema, value, at, is_closed):
        properties = schema.get("properties", {})
        rest = schema.get(_REST, not (is_closed and properties))
        yield from (f"{at}.{name}: is missing" for name in schema.get("required", ()) if name not in value)
        for name, each in value.items():
            if name in properties:
                yield from self.value_faults(properties[name], each, f"{at}.{name}", is_closed)
            elif isinstance(rest, dict):
                yield from self.value_faults(rest, each, f"{at}.{name}", is_closed)
            elif not rest:
                yield f"{at}.{name}: is not described"

    def fields(self, schema):
        """Give the fields of an object, each with the types that it may have."""
        return {name: self._types(each) for name, each in self._resolved(schema)["properties"].items()}

    def _types(self, schema):
        schema = self._resolved(schema)
        return {*_types(schema), *(kind for each in schema.get("oneOf", ()) for kind in self._types(each))}

    def _resolved(self, schema):
        return self.schemas[schema["$ref"].removeprefix(TO_SCHEMA)] if "$ref" in schema else schema


_REST = "additionalProperties"


def type_of(value):
    """Give the type of a value of JSON: the narrowest one."""
    return next(
        kind
        for kind in ("null", "boolean", "object", "array", "integer", "number", "string")
        if _is(kind, value)
    )


def _fields(kind, found, at):
    known, needed = (set(each.split()) for each in OBJECTS[kind])
    yield from (f"{at}: {name} is no field of {kind}" for name in sorted(set(found) - known))
    yield from (f"{at}: {name} is missing" for name in sorted(needed - set(found)))


def _types(schema):
    types = schema.get("type", [])
    return types if isinstance(types, list) else [types]


def _is(kind, value):
    if isinstance(value, bool) or value is None:
        return kind == {True: "boolean", False: "boolean", None: "null"}[value]
    if kind == "integer":
        return isinstance(value, int | float) and value == int(value)
    sorts = {"number": (int, float), "string": str, "array": list, "object": dict}
    return isinstance(value, sorts.get(kind, ()))


def _is_time(kind, value):
    """Say whether a text is a time with its zone; a format that is not known here has no value."""
    try:
        return kind == "date-time" and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _lacks(parameter, query):
    return parameter.get("required", False) and parameter["name"] not in query


def _schema_of(described):
    (media,) = described["content"].values()
    return media["schema"]
