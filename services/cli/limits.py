"""The options that say what a key or a team may spend and ask for."""

from typing import TypedDict

import click


class LimitFields(TypedDict, total=False):
    """What they say; None where one was not given."""

    max_budget: float | None
    budget_duration: str | None
    tpm_limit: int | None
    rpm_limit: int | None


LIMIT_OPTIONS = (
    click.option("--max-budget", type=float, help="USD; kept, not yet enforced."),
    click.option("--budget-duration", help="When the budget begins anew; kept, not yet enforced."),
    click.option("--tpm-limit", type=click.IntRange(0), help="Tokens a minute; kept, not yet enforced."),
    click.option("--rpm-limit", type=click.IntRange(0), help="Requests a minute; kept, not yet enforced."),
)
