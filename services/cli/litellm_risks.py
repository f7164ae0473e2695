"""Says what an operator may miss of LiteLLM's settings that Tollhouse leaves out; no more than the words."""

from collections.abc import Mapping

OTHER_PROVIDER = "not served: requests go to Anthropic alone"
MODEL_NAME = "names are mapped by key alone: give keys aliases, or ask for Anthropic's own model names"
UNMARKED = "the environment's credential is used, as no entry says use_in_pass_through"
UNUSED = (
    "not used, as no entry says use_in_pass_through: callers come with their own keys for Anthropic, "
    "unless ANTHROPIC_API_KEY is set"
)

_NOT_CHECKED = "requests are not checked by it: what it would refuse passes"
_NOT_AUTHENTICATED = "callers are known by keys alone: whom it would let in is answered 401"
_NOT_CALLED = "nothing is sent to it, and bodies to nobody: subscribe to gateway.rated.v1"
_OWN_PRICES = "give your own prices in rating.overrides"
_NO_BUDGET = "no such limit is kept"
_NO_TAGS = "end users come from the headers and members that services/edge/README.md names"

# By path: a section, or section.setting.
RISKS: Mapping[str, str] = {
    "guardrails": _NOT_CHECKED,
    "policies": _NOT_CHECKED,
    "router_settings": "nothing is retried, balanced or sent elsewhere: clients see Anthropic's own answers",
    "general_settings.allowed_routes": "it limits nothing: give keys allowed_routes of their own",
    "general_settings.admin_only_routes": "routes are limited by key, not here",
    "general_settings.public_routes": "no route is served without a credential",
    "general_settings.allowed_ips": "callers from every address are let in: limit them before the gateway",
    "general_settings.max_request_size_mb": "edge.body_bytes_max is the limit here",
    "general_settings.custom_auth": _NOT_AUTHENTICATED,
    "general_settings.enable_jwt_auth": _NOT_AUTHENTICATED,
    "general_settings.litellm_jwtauth": _NOT_AUTHENTICATED,
    "general_settings.enable_oauth2_auth": _NOT_AUTHENTICATED,
    "general_settings.enable_oauth2_proxy_auth": _NOT_AUTHENTICATED,
    "general_settings.litellm_key_header_name": (
        "keys are read from x-litellm-api-key, Authorization and x-api-key, and in no other header"
    ),
    "general_settings.pass_through_endpoints": "not served: /anthropic and /v1 are the only routes",
    "general_settings.enforce_user_param": "a request without an end user passes",
    "general_settings.user_header_name": _NO_TAGS,
    "general_settings.user_header_mappings": _NO_TAGS,
    "general_settings.global_max_parallel_requests": _NO_BUDGET,
    "general_settings.max_parallel_requests": _NO_BUDGET,
    "general_settings.key_management_system": "os.environ/NAME is looked up in the environment alone",
    "general_settings.disable_spend_logs": "every exchange is recorded",
    "general_settings.maximum_spend_logs_retention_period": "rows are kept for ever",
    "general_settings.alerting": "alerts are made from metrics",
    "litellm_settings.callbacks": _NOT_CALLED,
    "litellm_settings.success_callback": _NOT_CALLED,
    "litellm_settings.failure_callback": _NOT_CALLED,
    "litellm_settings.service_callback": _NOT_CALLED,
    "litellm_settings.audit_log_callbacks": _NOT_CALLED,
    "litellm_settings.guardrails": _NOT_CHECKED,
    "litellm_settings.blocked_user_list": "block end users with /customer/block",
    "litellm_settings.banned_keywords_list": _NOT_CHECKED,
    "litellm_settings.max_budget": _NO_BUDGET,
    "litellm_settings.max_internal_user_budget": _NO_BUDGET,
    "litellm_settings.max_end_user_budget": _NO_BUDGET,
    "litellm_settings.upperbound_key_generate_params": "new keys are not held below it",
    "litellm_settings.default_key_generate_params": "new keys get what they are asked for, and no more",
    "litellm_settings.cache": "every request goes to Anthropic",
    "litellm_settings.include_cost_in_streaming_usage": "answers stay as they are: see gateway.rated.v1",
    "litellm_settings.cost_discount_config": _OWN_PRICES,
    "litellm_settings.cost_margin_config": _OWN_PRICES,
}
RISKS_OF_PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(("extra_headers", "headers"), "sent by nobody: clients send their own"),
    **dict.fromkeys(("rpm", "tpm", "max_parallel_requests", "max_budget", "budget_duration"), _NO_BUDGET),
    **dict.fromkeys(("input_cost_per_token", "output_cost_per_token"), _OWN_PRICES),
}

_CALLBACKS = frozenset(
    f"litellm_settings.{name}"
    for name in ("callbacks", "success_callback", "failure_callback", "service_callback")
)
# Its metrics are served by every process of Tollhouse's, asked or not.
_PROMETHEUS = ("prometheus", ["prometheus"])


def is_harmless(path: str, value: object) -> bool:
    """Say whether leaving a setting out changes nothing: it switches something off, or says what is so."""
    is_off = value is None or value is False or value in ("", [], {})
    return is_off or (path in _CALLBACKS and value in _PROMETHEUS)
