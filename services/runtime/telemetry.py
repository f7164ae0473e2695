"""Decides how a process speaks to its operator: one JSON line per event on standard error, nothing else."""

import json
import logging
import sys

import msgspec
import structlog

from services.runtime import metrics

_ENCODER = msgspec.json.Encoder(enc_hook=str)


def configure_logging(service: str) -> None:
    """Send every log line of this process, libraries' warnings included, to standard error as JSON."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serialized),
        ],
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.raiseExceptions = False  # a line that cannot be written is not worth another
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LibraryLines(service))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # aiokafka logs each of its own retries; publisher and consumer say once what came of them.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Lines:
    """Writes our own lines; what cannot be written is counted, for no log line may cost an exchange."""

    def msg(self, message: str) -> None:
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            metrics.log_lines_lost.inc()

    log = debug = info = warning = error = critical = exception = msg


class _LibraryLines(logging.Formatter):
    """Puts what a library logs into the shape of our own lines."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": "library.logged",
            "service": self._service,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encoded(line)


def _serialized(event: object, **_: object) -> str:
    return _encoded(event)


def _encoded(line: object) -> str:
    try:
        return _ENCODER.encode(line).decode()
    except UnicodeEncodeError:
        # A path may hold bytes that are no text, and to log it may not end the process.
        return json.dumps(line, default=str)
