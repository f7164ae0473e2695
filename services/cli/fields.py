"""How the fields of keys and teams are typed, told to an edge, taken away again and shown."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import cast

import click

from services.cli.admin import Json, read, show

_MODEL_BUDGETS = "model_max_budget"
_USD = "budget_limit"
_DURATION = "time_period"


class Usd(click.ParamType[Decimal]):
    """An amount, kept to the digit; that it is not below 0 is for the edge to say."""

    name = "usd"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read it; an exit with a sentence where it is no number."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = None
        if amount is None or not amount.is_finite():
            self.fail("must be an amount of USD, such as 12.50", param, ctx)
        return amount


class Pair(click.ParamType[tuple[str, str]]):
    """A name and its value."""

    name = "name=value"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Read NAME=VALUE."""
        name, sign, text = value.partition("=")
        if not sign or not name:
            self.fail("must be NAME=VALUE", param, ctx)
        return name, text


class ModelBudget(click.ParamType[tuple[str, Json]]):
    """A model and its budget, for ever or anew after each duration."""

    name = "model=usd[/duration]"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Json]:
        """Read MODEL=USD[/DURATION]; a model may have a slash of its own."""
        model, sign, budget = value.rpartition("=")
        usd, slash, duration = budget.partition("/")
        if not sign or not model or bool(slash) != bool(duration):
            self.fail("must be MODEL=USD or MODEL=USD/DURATION, such as claude-haiku-4-5=5/30d", param, ctx)
        return model, {_USD: Usd().convert(usd, param, ctx), _DURATION: duration}


# Behind what is typed stands the admin API's name of the field, where that is another.
MODELS = click.Option(
    ("--model", "models"), multiple=True, help="A model, or a pattern such as 'claude-haiku-*'."
)
METADATA = click.Option(("--metadata",), type=Pair(), multiple=True, help="The same as a name and a value.")
LIMIT_OPTIONS = (
    click.Option(("--max-budget",), type=Usd(), help="Kept, not yet enforced."),
    click.Option(("--soft-budget",), type=Usd(), help="Kept, not yet enforced."),
    click.Option(("--budget-duration",), help="When the budget begins anew; kept, not yet enforced."),
    click.Option(
        ("--model-max-budget", _MODEL_BUDGETS),
        type=ModelBudget(),
        multiple=True,
        help="A model's own; kept, not yet enforced.",
    ),
    click.Option(("--tpm-limit",), type=click.IntRange(0), help="Tokens a minute; kept, not yet enforced."),
    click.Option(("--rpm-limit",), type=click.IntRange(0), help="Requests a minute; kept, not yet enforced."),
    click.Option(
        ("--max-parallel-requests",),
        type=click.IntRange(0),
        help="Requests at the same time; kept, not yet enforced.",
    ),
)


def unset_option(options: Sequence[click.Option]) -> click.Option:
    """Build the option that takes away what the others gave."""
    return click.Option(
        ("--unset",),
        multiple=True,
        type=click.Choice([_word(option) for option in options]),
        metavar="FIELD",
        help="Take away what an option above gave, such as --unset tag.",
    )


def body_of(
    options: Sequence[click.Option], fields: Mapping[str, object], unset: Sequence[str] = ()
) -> dict[str, object]:
    """Say in the admin API's fields what was given, and null for what is to go."""
    body: dict[str, object] = {}
    for option in options:
        name, word = str(option.name), _word(option)
        if fields[name] not in (None, ()):
            if word in unset:
                raise click.UsageError(f"--{word} and --unset {word}: give only one of them")
            body[name] = _value(option, fields[name])
        elif word in unset:
            body[name] = None
    return body


def show_record(record: Json) -> None:
    """Print a key or a team, the budgets of its models as the option takes them."""
    budgets = cast("Mapping[str, Mapping[str, str]]", record.get(_MODEL_BUDGETS) or {})
    texts = {model: "/".join(filter(None, (each[_USD], each[_DURATION]))) for model, each in budgets.items()}
    show({**record, _MODEL_BUDGETS: texts})


def print_answer(answer: bytes, as_json: bool) -> None:
    """Print an answer that is a key or a team."""
    if as_json:
        click.echo(answer)
    else:
        show_record(read(answer))


def _word(option: click.Option) -> str:
    return option.opts[0].removeprefix("--")


def _value(option: click.Option, given: object) -> object:
    if not isinstance(option.type, Pair | ModelBudget):
        return given
    pairs = cast("tuple[tuple[str, object], ...]", given)
    members = dict(pairs)
    if len(members) < len(pairs):
        raise click.UsageError(f"--{_word(option)}: gives a name twice")
    return members
