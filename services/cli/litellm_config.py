"""Reads a LiteLLM proxy_config.yaml as settings of Tollhouse's, and names all that it leaves out; pure.

Never quotes a value: any of them may be a key.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from services.cli import litellm_risks
from services.runtime.config import Mapped, Variable, override

SECTIONS = frozenset(("model_list", "litellm_settings", "general_settings", "router_settings"))
REFERENCE = "os.environ/"
PROVIDER = "anthropic"
CREDENTIAL_VARIABLES = ("TOLLHOUSE_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
# LiteLLM looks at these only where its file says nothing; every other variable goes before the file.
_BEHIND_THE_FILE = frozenset(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "LITELLM_MASTER_KEY"))
# What carries no setting of its own but stands for others.
_READ_ELSEWHERE = ("model_list", "credential_list", "environment_variables")

_GENERAL = {
    "master_key": "edge.master_key",
    "pass_through_request_timeout": "edge.upstream.read_s_max",
}
_LITELLM = {
    "disable_end_user_cost_tracking": "edge.disable_end_user_cost_tracking",
    "disable_end_user_cost_tracking_prometheus_only": "rating.disable_end_user_cost_tracking_prometheus_only",
    "enable_end_user_cost_tracking_prometheus_only": "rating.enable_end_user_cost_tracking_prometheus_only",
}
# One credential for two rooms: those who make batches and those who follow them.
_CREDENTIAL = tuple(
    (name, f"{room}.upstream.{setting}")
    for name, setting in (("api_key", "api_key"), ("api_base", "base_url"))
    for room in ("edge", "batch_tracker")
)
_KEYS = ("master_key", "api_key")
# Always so here, whatever the file says of it.
_ALWAYS = frozenset(("litellm_settings.turn_off_message_logging", "litellm_settings.json_logs"))
# Of an entry of model_list that is used: the rest of it is about LiteLLM's own routing.
_USED_PARAMETERS = frozenset(
    ("model", "api_key", "api_base", "use_in_pass_through", "custom_llm_provider", "litellm_credential_name")
)


class Ignored(NamedTuple):
    """A setting that is left out; `risk` says what an operator may miss, "" where that is nothing."""

    path: str
    risk: str = ""


class Unset(NamedTuple):
    """A setting of Tollhouse's that the file takes from the environment, which does not hold it."""

    setting: str
    fault: str


class Translation(NamedTuple):
    """What a LiteLLM file says in settings of Tollhouse's; `origins` names where each of them stood.

    `secret_variables` are those of the environment that it says hold keys; `outranked` go for nothing,
    since the file says what they would.
    """

    settings: Mapped
    origins: Mapping[str, str]
    ignored: tuple[Ignored, ...]
    unset: tuple[Unset, ...]
    faults: tuple[str, ...]
    secret_variables: frozenset[str]
    outranked: frozenset[Variable]


class _Deployment(NamedTuple):
    """An entry of model_list that is Anthropic's, with what its named credential adds."""

    path: str
    parameters: Mapped
    is_marked: bool


def is_litellm(document: Mapped) -> bool:
    """Say whether a file of settings is LiteLLM's, by the sections that only it has."""
    return not SECTIONS.isdisjoint(document)


def translate(document: Mapped, environ: Mapping[str, str], variables: Sequence[Variable]) -> Translation:
    """Translate a file that `is_litellm`; what cannot be known without guessing is a fault.

    `variables` of the environment go before the file, but for those that LiteLLM puts behind it: its own
    master key and Anthropic's credentials. Where the two say different things the loser is named.
    """
    reading = _Reading(environ, _mapping(document.get("environment_variables")))
    reading.take_variables(variables)
    for name, section in document.items():
        reading.take_section(name, section)
    reading.take_credential(reading.deployments(document))
    return reading.translation(reading.compared(variables))


class _Reading:
    """Gathers what one file says."""

    def __init__(self, environ: Mapping[str, str], variables: Mapped) -> None:
        # LiteLLM lays a file's own variables over the environment before it looks anything up.
        self._process = environ
        self._variables = {name: value for name, value in variables.items() if value not in (None, "")}
        self._environ = {**environ, **{name: str(value) for name, value in self._variables.items()}}
        self._values: dict[str, object] = {}
        self._origins: dict[str, str] = {}
        self._ignored: list[Ignored] = []
        self._unset: list[Unset] = []
        self._faults: list[str] = []
        self._secret_variables: set[str] = set()

    def translation(self, outranked: frozenset[Variable]) -> Translation:
        return Translation(
            settings=override({}, self._values),
            origins=self._origins,
            ignored=tuple(dict.fromkeys(self._ignored)),
            unset=tuple(self._unset),
            faults=tuple(self._faults),
            secret_variables=frozenset(self._secret_variables),
            outranked=outranked,
        )

    def take_section(self, name: str, section: object) -> None:
        if name == "include":
            self._faults.append("include: other files are not followed; write everything into this one")
        elif name in ("general_settings", "litellm_settings"):
            self._take_settings(name, section)
        elif name not in _READ_ELSEWHERE:
            self._ignore(name)

    def take_variables(self, variables: Sequence[Variable]) -> None:
        """Take the settings that the file gives as variables; of two for one setting the first counts."""
        for name, ours in reversed(variables):
            if name in self._variables:
                self._set(ours, f"environment_variables.{name}", self._variables[name])

    def compared(self, variables: Sequence[Variable]) -> frozenset[Variable]:
        """Give the variables that the file outranks, and name whatever loses by saying something else."""
        said = {*self._values, *(each.setting for each in self._unset)}
        behind = (each for each in variables if each.name in _BEHIND_THE_FILE)
        outranked = frozenset(each for each in behind if each.path in said)
        winners: dict[str, str] = {}
        key = "edge.upstream.api_key"
        if key in self._values and self._process.get("ANTHROPIC_AUTH_TOKEN", "") != "":
            self._outrank("ANTHROPIC_AUTH_TOKEN", key)  # another setting, but a key goes before a token
        for each in variables:
            text = str(self._values.get(each.path, ""))
            if each.path not in self._values or self._process.get(each.name, "") in ("", text):
                continue
            if each in outranked:
                self._outrank(each.name, each.path)
            else:
                winners.setdefault(each.path, each.name)
        for path, name in winners.items():
            risk = f"{name} of the environment goes before it, and says something else"
            self._ignored.append(Ignored(self._origins[path], risk))
        return outranked

    def _outrank(self, variable: str, setting: str) -> None:
        risk = f"{self._origins[setting]} of the file goes before it, as it does in LiteLLM"
        self._ignored.append(Ignored(f"{variable} of the environment", risk))

    def _take_settings(self, name: str, section: object) -> None:
        if not _is_mapping_or_none(section):
            self._faults.append(f"{name}: must be a mapping")
            return
        known = _GENERAL if name == "general_settings" else _LITELLM
        for key, value in _mapping(section).items():
            path = f"{name}.{key}"
            if key in known:
                self._set(known[key], path, value)
            elif path == "general_settings.cancel_on_disconnect":
                self._set("edge.drain.on_disconnect", path, "cancel" if value is True else "drain")
            elif path not in _ALWAYS:
                self._ignore_setting(path, value)

    def _ignore_setting(self, path: str, value: object) -> None:
        if litellm_risks.is_harmless(path, value):
            self._ignored.append(Ignored(path))
        else:
            self._ignore(path)

    def _set(self, ours: str, path: str, value: object) -> None:
        """Take a value, or what the environment has in place of it: an empty variable is none."""
        name = value.removeprefix(REFERENCE) if isinstance(value, str) and value.startswith(REFERENCE) else ""
        found = self._environ.get(name, "") if name else value
        if name and ours.endswith(_KEYS):
            self._secret_variables.add(name)
        if name and found == "":
            self._unset.append(Unset(ours, f"{path}: the environment variable {name} is not set"))
        elif found is not None:
            self._values[ours] = found
            self._origins[ours] = path

    def _ignore(self, path: str) -> None:
        self._ignored.append(Ignored(path, litellm_risks.RISKS.get(path, "")))

    def deployments(self, document: Mapped) -> list[_Deployment]:
        """Find Anthropic's among the models; all others are left out, since they are not served here."""
        listed = document.get("model_list")
        if listed is not None and not isinstance(listed, list):
            self._faults.append("model_list: must be a list")
            return []
        credentials = _credentials(document.get("credential_list"))
        found: list[_Deployment] = []
        for index, entry in enumerate(cast("Sequence[object]", listed or [])):
            path = f"model_list[{index}]"
            deployment = self._deployment(path, _mapping(entry), credentials)
            if deployment is None:
                self._ignored.append(Ignored(path, litellm_risks.OTHER_PROVIDER))
            else:
                found.append(deployment)
        return found

    def _deployment(self, path: str, entry: Mapped, credentials: Mapping[str, Mapped]) -> _Deployment | None:
        own = _mapping(entry.get("litellm_params"))
        model = own.get("model")
        if not isinstance(model, str) or not _is_anthropic(model, own.get("custom_llm_provider")):
            return None
        for name in own:
            if name not in _USED_PARAMETERS:
                risk = litellm_risks.RISKS_OF_PARAMETERS.get(name, "")
                self._ignored.append(Ignored(f"{path}.litellm_params.{name}", risk))
        called = model.removeprefix(f"{PROVIDER}/")
        if entry.get("model_name") not in (called, model, "*") and "*" not in called:
            self._ignored.append(Ignored(f"{path}.model_name", litellm_risks.MODEL_NAME))
        named = own.get("litellm_credential_name")
        if named is not None and str(named) not in credentials:
            self._faults.append(f"{path}.litellm_params.litellm_credential_name: not in credential_list")
        parameters = {**(credentials.get(named, {}) if isinstance(named, str) else {}), **own}
        return _Deployment(f"{path}.litellm_params", parameters, own.get("use_in_pass_through") is True)

    def take_credential(self, deployments: Sequence[_Deployment]) -> None:
        """Choose as LiteLLM's pass-through: what is marked, else what the environment has, else nothing."""
        marked = [each for each in deployments if each.is_marked]
        unmarked = [each for each in deployments if not each.is_marked]
        if not marked:
            has_other = any(self._environ.get(name, "") != "" for name in CREDENTIAL_VARIABLES)
            self._leave(unmarked, litellm_risks.UNMARKED if has_other else litellm_risks.UNUSED)
            return
        self._leave(unmarked, "")
        distinct: dict[tuple[str, ...], _Deployment] = {}
        for each in marked:
            if not {"api_key", "api_base"}.isdisjoint(each.parameters):
                distinct.setdefault(self._credential(each), each)
        if len(distinct) > 1:
            self._faults.append(_ambiguity(list(distinct.values())))
            return
        for chosen in distinct.values():
            for name, ours in _CREDENTIAL:
                if name in chosen.parameters:
                    self._set(ours, f"{chosen.path}.{name}", chosen.parameters[name])

    def _leave(self, deployments: Sequence[_Deployment], risk: str) -> None:
        for each in deployments:
            key = str(each.parameters.get("api_key", ""))
            if key.startswith(REFERENCE):
                self._secret_variables.add(key.removeprefix(REFERENCE))
        self._ignored.extend(
            Ignored(f"{each.path}.{name}", risk)
            for each in deployments
            for name in ("api_key", "api_base")
            if name in each.parameters
        )

    def _credential(self, deployment: _Deployment) -> tuple[str, ...]:
        """Say what an entry comes to, so that two that come to the same are one."""
        texts = (str(deployment.parameters.get(name, "")) for name in ("api_key", "api_base"))
        return tuple(
            self._environ.get(text.removeprefix(REFERENCE), text) if text.startswith(REFERENCE) else text
            for text in texts
        )


def _ambiguity(distinct: Sequence[_Deployment]) -> str:
    places = ", ".join(each.path.removesuffix(".litellm_params") for each in distinct)
    return f"model_list: {places} have different credentials and use_in_pass_through; leave it on one"


def _is_anthropic(model: str, provider: object) -> bool:
    if isinstance(provider, str):
        return provider == PROVIDER
    return model.startswith((f"{PROVIDER}/", "claude-"))


def _credentials(listed: object) -> dict[str, Mapped]:
    """Read credential_list: what an entry of model_list may take its key from by name."""
    entries = [_mapping(each) for each in _listed(listed)]
    named = [(each.get("credential_name"), _mapping(each.get("credential_values"))) for each in entries]
    return {name: values for name, values in named if isinstance(name, str)}


def _listed(value: object) -> Iterator[object]:
    if isinstance(value, list):
        yield from cast("list[object]", value)


def _is_mapping_or_none(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _mapping(value: object) -> Mapped:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
