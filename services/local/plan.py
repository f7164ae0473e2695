"""Decides which processes make up the local stack, how they find each other, and what a person is told."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

HOST = "127.0.0.1"
# The probes of the consumers and the simulated API lie beside the edge, so that two stacks can share a host.
RATING_PORT_STEP = 1
SINK_PORT_STEP = 2
SIMULATED_PORT_STEP = 3
BATCH_TRACKER_PORT_STEP = 4
# What an exchange that is open may take when the stack is stopped; all of it must be down within 10 s.
EDGE_SHUTDOWN_S_MAX = 3
SIMULATED_KEY = "sk-ant-simulated"
# Credentials stay with the service that uses them.
UPSTREAM_SECRETS = frozenset(("TOLLHOUSE_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"))
SECRETS_OF = {
    "edge": UPSTREAM_SECRETS | {"TOLLHOUSE_MASTER_KEY", "LITELLM_MASTER_KEY"},
    "batch-tracker": UPSTREAM_SECRETS,
    "sink": frozenset(("CLICKHOUSE_PASSWORD",)),
    "clickhouse": frozenset(("CLICKHOUSE_PASSWORD",)),
}
SECRETS = frozenset[str]().union(*SECRETS_OF.values())


class StackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; an address that is not empty is of a server that is already there."""

    port: int
    kafka_port: int
    clickhouse_port: int
    data_dir: Path
    kafka: str = ""
    clickhouse: str = ""
    upstream: str
    is_simulated: bool = False
    has_credential: bool = False


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One process: how it is started, on which port it answers, and when it is stopped."""

    name: str
    argv: tuple[str, ...]
    port: int
    port_option: str
    probe: Literal[
        "connect", "/ping", "/health/readiness"
    ]  # a connection is enough, or this path answers 200
    stop_turn: int  # those of one turn are stopped together, the lowest first
    secrets: frozenset[str] = frozenset()  # of SECRETS, the variables that it may see


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stack: the servers first, then the services that need them."""

    data_dir: Path
    servers: tuple[Child, ...]
    services: tuple[Child, ...]
    environ: Mapping[str, str]
    addresses: Sequence[tuple[str, str]]


def plan(options: StackOptions) -> Plan:
    """Lay the stack out."""
    kafka = options.kafka or f"{HOST}:{options.kafka_port}"
    clickhouse = options.clickhouse or f"http://{HOST}:{options.clickhouse_port}"
    simulated_port = options.port + SIMULATED_PORT_STEP
    upstream = f"http://{HOST}:{simulated_port}" if options.is_simulated else options.upstream
    return Plan(
        data_dir=options.data_dir,
        servers=tuple(_servers(options, simulated_port)),
        services=tuple(_services(options)),
        environ=_environ(options, kafka, clickhouse, upstream),
        addresses=_addresses(options, kafka, clickhouse, upstream),
    )


def _servers(options: StackOptions, simulated_port: int) -> list[Child]:
    children: list[Child] = []
    if not options.kafka:
        children.append(_server("kafka", options.kafka_port, "--kafka-port", options.data_dir / "kafka"))
    if not options.clickhouse:
        data_dir = options.data_dir / "clickhouse"
        children.append(_server("clickhouse", options.clickhouse_port, "--clickhouse-port", data_dir))
    if options.is_simulated:
        children.append(_server("anthropic", simulated_port, "--port", None))
    return children


def _server(name: str, port: int, port_option: str, data_dir: Path | None) -> Child:
    data = () if data_dir is None else ("--data-dir", str(data_dir))
    return Child(
        name=name,
        argv=(sys.executable, "-m", f"services.local.{name}", "--port", str(port), *data),
        port=port,
        port_option=port_option,
        probe="/ping" if name == "clickhouse" else "connect",
        stop_turn=3,
        secrets=SECRETS_OF.get(name, frozenset()),
    )


def _services(options: StackOptions) -> list[Child]:
    return [
        Child(
            name=name,
            argv=(sys.executable, "-m", "services.cli", name),
            port=options.port + step,
            port_option="--port",
            probe="/health/readiness",
            stop_turn=turn,
            secrets=SECRETS_OF.get(name, frozenset()),
        )
        for name, step, turn in (
            ("edge", 0, 1),
            ("rating", RATING_PORT_STEP, 2),
            ("sink", SINK_PORT_STEP, 2),
            ("batch-tracker", BATCH_TRACKER_PORT_STEP, 2),
        )
    ]


def _environ(options: StackOptions, kafka: str, clickhouse: str, upstream: str) -> dict[str, str]:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "CLICKHOUSE_URL": clickhouse,
        "TOLLHOUSE_HOST": HOST,
        "TOLLHOUSE_PORT": str(options.port),
        "TOLLHOUSE_RATING_PORT": str(options.port + RATING_PORT_STEP),
        "TOLLHOUSE_SINK_PORT": str(options.port + SINK_PORT_STEP),
        "TOLLHOUSE_BATCH_TRACKER_PORT": str(options.port + BATCH_TRACKER_PORT_STEP),
        "TOLLHOUSE_SPOOL_DIRECTORY": str(options.data_dir / "spool"),
        "TOLLHOUSE_SHUTDOWN_S_MAX": str(EDGE_SHUTDOWN_S_MAX),
        "ANTHROPIC_API_BASE": upstream,
    }
    if options.is_simulated:  # a real key has no business with a simulation
        environ["TOLLHOUSE_ANTHROPIC_API_KEY"] = SIMULATED_KEY
        environ["ANTHROPIC_API_KEY"] = ""
        environ["ANTHROPIC_AUTH_TOKEN"] = ""
    return environ


def _credential(options: StackOptions) -> str:
    if options.is_simulated:
        return "simulated, any key will do"
    return "under the gateway's credential" if options.has_credential else "under each caller's own key"


def _addresses(options: StackOptions, kafka: str, clickhouse: str, upstream: str) -> list[tuple[str, str]]:
    edge = f"http://{HOST}:{options.port}"
    probed = (0, RATING_PORT_STEP, SINK_PORT_STEP, BATCH_TRACKER_PORT_STEP)
    return [
        ("edge", f"{edge}/anthropic   (the base URL for clients)"),
        ("upstream", f"{upstream}   ({_credential(options)})"),
        ("kafka", kafka),
        ("clickhouse", clickhouse),
        ("metrics", ", ".join(f"http://{HOST}:{options.port + step}/metrics" for step in probed)),
        ("data", str(options.data_dir)),
        ("logs", str(options.data_dir / "logs")),
    ]
