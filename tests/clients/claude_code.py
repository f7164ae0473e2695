"""Claude Code as a person would run it once, in a home of its own, its model's tool calls scripted."""

import base64
import json
import os
import subprocess
from pathlib import Path

# The package's own launcher for installations without install scripts.
PROGRAM = Path(__file__).parent / "node_modules" / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"
MODEL = "claude-sonnet-5-5"
RUN_S_MAX = 120
TOOLS = "Bash,Read,Agent"  # named, since a root user may not skip permissions altogether
FOREIGN = ("ANTHROPIC_", "CLAUDE", "TOLLHOUSE_", "LITELLM_")


class ClaudeCode:
    """One home directory and one working directory; `run` holds a conversation in them."""

    def __init__(self, directory, base_url):
        self.home, self.work = directory / "home", directory / "work"
        self.home.mkdir()
        self.work.mkdir()
        self._base_url = base_url

    def run(self, prompt, *calls, **environ):
        """Ask once and let it use its tools; gives its own report of the conversation."""
        asked = ("-p", "--output-format", "json", "--model", MODEL, "--allowedTools", TOOLS, "--", prompt)
        finished = subprocess.run(
            ["node", PROGRAM, *asked],
            cwd=self.work,
            env=self._environ(calls, environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return json.loads(finished.stdout)

    def _environ(self, calls, environ):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return inherited | {
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / "claude"),
            "ANTHROPIC_BASE_URL": self._base_url,
            "ANTHROPIC_CUSTOM_HEADERS": f"x-simulate: tool-calls={_scripted(calls)}",
            **environ,
        }


def call(name, **given):
    """One call of a tool."""
    return {"name": name, "input": given}


def _scripted(calls):
    return base64.urlsafe_b64encode(json.dumps(calls).encode()).decode().rstrip("=")
