"""What belongs to the whole process is as it was afterwards."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from sfray import process
from sfray.process import environment, path_of_descriptor, program_name, quieted


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFRAY_TEST_OLD", "old")
    monkeypatch.delenv("SFRAY_TEST_NEW", raising=False)
    with (
        pytest.raises(KeyError),
        environment(SFRAY_TEST_OLD="other", SFRAY_TEST_NEW="new"),
    ):
        assert (os.environ["SFRAY_TEST_OLD"], os.environ["SFRAY_TEST_NEW"]) == ("other", "new")
        raise KeyError
    assert os.environ["SFRAY_TEST_OLD"] == "old"
    assert "SFRAY_TEST_NEW" not in os.environ


def test_handlers_of_others_get_their_level_back() -> None:
    handlers = [logging.NullHandler(level) for level in (logging.DEBUG, logging.WARNING)]
    with quieted(handlers, logging.CRITICAL):
        assert [handler.level for handler in handlers] == [logging.CRITICAL] * 2
    assert [handler.level for handler in handlers] == [logging.DEBUG, logging.WARNING]


def test_a_command_to_type_is_called_as_this_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/sfray", "demo"])
    assert program_name() == ".venv/bin/sfray"
    monkeypatch.setattr(sys, "argv", ["/somewhere/sfray/__main__.py", "demo"])
    assert program_name() == "python -m sfray"
    (tmp_path / "sfray").touch(mode=0o755)
    assert program_name() == "sfray"


def test_what_a_descriptor_is_open_on_where_the_system_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("w") as file:
        link = path_of_descriptor(file.fileno())
        assert link is not None and link.readlink() == tmp_path / "file"
        monkeypatch.setattr(process, "_DESCRIPTORS", tmp_path / "none")
        assert path_of_descriptor(file.fileno()) is None
