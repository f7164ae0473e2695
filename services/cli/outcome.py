"""Turns what Tollhouse refuses into one sentence and an exit code; no traceback for a person's mistake."""

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from services.runtime.errors import StartRefused, TollhouseError
from services.runtime.service import EXIT_FAILED, EXIT_REFUSED

Result = TypeVar("Result")


def done(work: Callable[[], Result]) -> Result:
    """Do the work and give its result, or say why not and leave."""
    try:
        return work()
    except StartRefused as exc:
        click.echo(f"tollhouse: {exc}", err=True)
        sys.exit(EXIT_REFUSED)
    except TollhouseError as exc:
        click.echo(f"tollhouse: {exc}", err=True)
        sys.exit(EXIT_FAILED)
