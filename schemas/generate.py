"""Writes the JSON Schemas and the AsyncAPI document from the event types; no service imports it."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas import async_api, json_schema
from schemas.codec import STRUCTS

HERE = Path(__file__).parent
ASYNC_API = "asyncapi.json"


def main(arguments: Sequence[str], folder: Path = HERE) -> int:
    """Write every file that is not as it should be; with --check only name them, and say so by 1."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    is_check: bool = parser.parse_args(arguments).check
    outdated = out_of_date(folder)
    if is_check:
        for path in outdated:
            sys.stderr.write(f"out of date: schemas/{path} (run: make schemas)\n")
        return 1 if outdated else 0
    write(folder, outdated)
    return 0


def files() -> Mapping[str, bytes]:
    """Give the contents of every generated file by its path in this folder.

    A file of an earlier version of a kind is not among them: it stays as it is, for who still reads it.
    """
    documents = {async_api.schema_path(kind): json_schema.schema_of(kind) for kind in STRUCTS}
    documents[ASYNC_API] = async_api.document()
    return {
        path: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        for path, document in documents.items()
    }


def out_of_date(folder: Path) -> list[str]:
    """Name the files that are missing or hold something else."""
    return [path for path, content in files().items() if _read(folder / path) != content]


def write(folder: Path, paths: Sequence[str]) -> None:
    """Write these files and say which."""
    contents = files()
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(contents[path])
        sys.stdout.write(f"wrote schemas/{path}\n")


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
