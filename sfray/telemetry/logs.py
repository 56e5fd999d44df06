"""Logs: plain lines for people, or one JSON object a line for machines; secrets in neither.

Every process of a run, driver and actors, logs in the same format and names the run.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.logging import RichHandler

from sfray.redaction import redact_text
from sfray.telemetry.terminal import terminal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)


class LogFormat(StrEnum):
    """`text` is a line for people (coloured on a terminal), `json` an object a line."""

    TEXT = "text"
    JSON = "json"


@dataclass(slots=True)
class _Process:
    log_format: LogFormat = LogFormat.TEXT
    run_id: str | None = None


_process = _Process()


def configure_logs(log_format: LogFormat, run_id: str | None = None) -> None:
    """Sends sfray's log of this process to standard error in a format; the last call counts."""
    _process.log_format, _process.run_id = log_format, run_id
    handler: logging.Handler = logging.StreamHandler()
    if log_format == LogFormat.JSON:
        handler.setFormatter(_JsonLines())
    elif sys.stderr.isatty():
        handler = RichHandler(console=terminal(stderr=True), show_path=False)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_redact)
    logger = logging.getLogger("sfray")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def log_format() -> LogFormat:
    """The format of this process."""
    return _process.log_format


@contextmanager
def run_logged(run_id: str) -> Iterator[None]:
    """What is logged inside, by any thread, is of a run; a process has one run at a time."""
    _process.run_id = run_id
    try:
        yield
    finally:
        _process.run_id = None


@contextmanager
def logged_about(**fields: Any) -> Iterator[None]:
    """What this task or thread logs inside is about something, such as a `video_id`."""
    token = _about.set((_about.get() or {}) | fields)
    try:
        yield
    finally:
        _about.reset(token)


class _JsonLines(logging.Formatter):
    """One object a line: time, level, logger, event, the run, what it is about, the extras."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if _process.run_id is not None:
            event["run_id"] = _process.run_id
        event |= _about.get() or {}
        event |= {
            key: value
            for key, value in vars(record).items()
            if key not in _STANDARD and not key.startswith("_")  # Ray adds a field of its own
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            event["exception"] = record.exc_text
        return json.dumps(_redacted(event), ensure_ascii=False, default=str)


def _redact(record: logging.LogRecord) -> bool:
    """Takes secrets out of a record before anything is written of it."""
    record.msg, record.args = redact_text(record.getMessage()), None
    if record.exc_info:
        record.exc_text = redact_text(logging.Formatter().formatException(record.exc_info))
    return True


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value
