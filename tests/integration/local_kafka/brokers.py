"""Starts stand-ins that a test may kill, each a process of its own, and reads what they cost."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

START_S_MAX = 30


class BrokerProcess:
    """A broker as a process of its own, which a test may kill; started anew, it listens where it did."""

    def __init__(self, data_dir, *options):
        self.data_dir = data_dir
        self.options = options
        self.port = 0
        self.process = None
        self.events = []

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process = spawn("--data-dir", str(self.data_dir), "--port", str(self.port), *self.options)
        overdue = threading.Timer(START_S_MAX, self.process.kill)
        overdue.start()
        try:
            said = json.loads(self.process.stderr.readline())
        finally:
            overdue.cancel()
        assert said["event"] == "kafka.started", said
        self.port = said["port"]
        # A pipe that nobody empties would stop the broker when it is full.
        self.events = []
        self._listener = threading.Thread(target=self._listen, args=(self.process, self.events), daemon=True)
        self._listener.start()
        return self

    def kill(self):
        self.process.kill()
        self.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.wait()

    def wait(self):
        """Wait for its end; its log is in `events` then."""
        self.process.wait(START_S_MAX)
        self._listener.join(START_S_MAX)
        self.process.stdout.close()
        self.process.stderr.close()

    @staticmethod
    def _listen(process, events):
        for line in process.stderr:
            events.append(json.loads(line)["event"])

    def cpu_s(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self):
        """What it has to itself: pages of files, which the kernel may drop at any time, are not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def spawn(*arguments):
    """Start the broker's command."""
    command = [sys.executable, "-m", "services.local.kafka", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(*arguments):
    """Run a command that ends by itself; give its exit code, and what it said that is no line of its log."""
    process = spawn(*arguments)
    out, err = process.communicate(timeout=START_S_MAX)
    return process.returncode, out, "".join(line for line in err.splitlines(True) if line[0] != "{")
