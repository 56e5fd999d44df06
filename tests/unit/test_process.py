"""What belongs to the whole process is as it was afterwards."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from sfray import process
from sfray.process import environment, path_of_descriptor, quieted


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


def test_what_a_descriptor_is_open_on_where_the_system_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("w") as file:
        link = path_of_descriptor(file.fileno())
        assert link is not None and link.readlink() == tmp_path / "file"
        monkeypatch.setattr(process, "_DESCRIPTORS", tmp_path / "none")
        assert path_of_descriptor(file.fileno()) is None
