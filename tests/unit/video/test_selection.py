from __future__ import annotations

import sys

import pytest

from sfray.errors import SpecError
from sfray.video.readers.selection import check_reader, choose_reader


@pytest.fixture
def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)


def test_a_reader_that_is_not_installed_is_refused_with_those_that_are_allowed(
    without_decord: None,
) -> None:
    with pytest.raises(SpecError) as raised:
        check_reader("decord")
    assert "\n" not in str(raised.value)
    for words in ("decode.reader is 'decord'", "not installed", "allowed here: auto, pyav"):
        assert words in str(raised.value)
    check_reader("auto")
    check_reader("pyav")


def test_a_reader_that_is_installed_is_allowed() -> None:
    pytest.importorskip("decord")
    check_reader("decord")


@pytest.mark.parametrize("has_descriptor", [True, False])
def test_nothing_but_its_name_brings_decord(has_descriptor: bool) -> None:
    assert choose_reader("auto", has_descriptor=has_descriptor).reader == "pyav"
    assert choose_reader("pyav", has_descriptor=has_descriptor).reader == "pyav"
    wanted = "decord" if has_descriptor else "pyav"
    assert choose_reader("decord", has_descriptor=has_descriptor).reader == wanted
