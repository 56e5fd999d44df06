from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from sfray.telemetry.logs import LogFormat, configure_logs, logged_about, run_logged

SIGNED = "s3://bucket/key.mp4?X-Amz-Signature=s3cret"


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_line_with_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON)
    with run_logged("r1"), logged_about(video_id="v1"), logged_about(request_id="q1"):
        logging.getLogger("sfray.storage").warning("a\nb %d", 7, extra={"attempt": 2})
    logging.getLogger("sfray").info("after")
    first, second = events(capsys)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "warning",
        "logger": "sfray.storage",
        "event": "a\nb 7",
        "run_id": "r1",
        "video_id": "v1",
        "request_id": "q1",
        "attempt": 2,
    }
    assert "run_id" not in second and "video_id" not in second


def test_other_threads_log_for_the_run_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.JSON)
    with run_logged("r1"):
        thread = threading.Thread(target=logging.getLogger("sfray").warning, args=("lost",))
        thread.start()
        thread.join()
    assert events(capsys)[0]["run_id"] == "r1"


@pytest.mark.parametrize("log_format", list(LogFormat))
def test_no_format_tells_a_secret(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(log_format)
    logger = logging.getLogger("sfray")
    logger.warning("reading %s", SIGNED, extra={"uris": [SIGNED], "nested": {"uri": SIGNED}})
    try:
        raise OSError(f"no answer from {SIGNED}")
    except OSError:
        logger.exception("failed")
    written = capsys.readouterr().err
    assert "s3://bucket/key.mp4" in written and "no answer from" in written
    assert "s3cret" not in written


def test_a_second_call_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogFormat.TEXT)
    configure_logs(LogFormat.JSON, run_id="r2")
    logging.getLogger("sfray").info("once")
    (event,) = events(capsys)
    assert (event["event"], event["run_id"]) == ("once", "r2")
