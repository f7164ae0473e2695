"""Writes the JSON Schema of tollhouse.yaml, so that an editor knows every setting; no service imports it.

Types and defaults are those of the Structs; what a setting means stands in deploy/tollhouse.example.yaml.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.inspect import Field, FloatType, StructType, Type, type_info

from schemas import json_schema
from schemas.json_schema import DIALECT, JsonObject
from services.cli.settings import SECTIONS

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMA = "tollhouse.schema.json"
EXAMPLE = "tollhouse.example.yaml"

_LINE = re.compile(r"(?P<indent> *)(?P<name>[a-z_]+):[^#]*(?:# *(?P<comment>.*))?")


def main(arguments: Sequence[str], folder: Path = DEPLOY) -> int:
    """Write the schema where it is not as it should be; with --check only say so, by 1."""
    parser = argparse.ArgumentParser(prog="python -m services.cli.config_schema", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the file is out of date"
    )
    is_check: bool = parser.parse_args(arguments).check
    path = folder / SCHEMA
    content = written((folder / EXAMPLE).read_text())
    if path.is_file() and path.read_text() == content:
        return 0
    if is_check:
        sys.stderr.write(f"out of date: deploy/{SCHEMA} (run: make schemas)\n")
        return 1
    path.write_text(content)
    sys.stdout.write(f"wrote deploy/{SCHEMA}\n")
    return 0


def written(example: str) -> str:
    """Give the file's content; `example` is the text of the example, for its comments."""
    meanings = dict(comments(example))
    schema: JsonObject = {
        "$schema": DIALECT,
        "title": "tollhouse.yaml",
        "type": "object",
        "properties": {name: _section(struct, name, meanings) for name, struct in SECTIONS.items()},
        "additionalProperties": False,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def comments(example: str) -> Iterator[tuple[str, str]]:
    """Read what stands behind each setting, by its dotted path; of a setting without a comment nothing."""
    parents: list[tuple[int, str]] = []
    for line in example.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        indent = len(found["indent"])
        parents = [each for each in parents if each[0] < indent]
        parents.append((indent, found["name"]))
        if found["comment"]:
            yield ".".join(name for _, name in parents), found["comment"].strip()


def _section(struct: type, path: str, meanings: Mapping[str, str]) -> JsonObject:
    info = type_info(struct)
    assert isinstance(info, StructType)
    return _object(info, path, meanings)


def _object(info: StructType, path: str, meanings: Mapping[str, str]) -> JsonObject:
    required = [field.encode_name for field in info.fields if field.required]
    schema: JsonObject = {
        "description": inspect.cleandoc(info.cls.__doc__ or ""),
        "type": ["object", "null"],
        "properties": {
            field.encode_name: _setting(field, f"{path}.{field.encode_name}", meanings)
            for field in info.fields
        },
        "additionalProperties": False,
    }
    return {**schema, "required": required} if required else schema


def _setting(field: Field, path: str, meanings: Mapping[str, str]) -> JsonObject:
    if isinstance(field.type, StructType):
        return _object(field.type, path, meanings)
    meaning = {"description": meanings[path]} if path in meanings else {}
    default = {} if field.required else {"default": json_schema.default_of(field)}
    return {**meaning, **_type(field.type), **default}


def _type(info: Type) -> JsonObject:
    return {"type": "number"} if isinstance(info, FloatType) else json_schema.type_schema(info)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
