"""Ids that never change: a job file of today asks for nothing again with a later version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from sfray import redaction
from sfray.planning import plan
from tests.golden.identities import IDS, identities, job_names, prepare

EXPECTED: dict[str, Any] = json.loads((IDS / "expected.json").read_text(encoding="utf-8"))
# sha256 of each file whose content is a part of ids. Others may be added; these stay as they are.
FROZEN_FILES: dict[str, str] = json.loads((IDS / "frozen_files.json").read_text(encoding="utf-8"))

ASKED_AGAIN = (
    "with this change every video of the corpora of those who use such a job would be answered "
    "again: what is new must leave the ids of what was asked before as they are"
)


@pytest.fixture(scope="module", autouse=True)
def folder_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("ids")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HOME", str(folder / "hub"))
        yield


def test_each_job_file_has_its_ids() -> None:
    assert job_names() == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_job_keeps_its_fingerprint_and_ids(name: str) -> None:
    now, before = identities(name), EXPECTED[name]
    assert now["fingerprint"] == before["fingerprint"], f"{name}.yaml: {ASKED_AGAIN}"
    for part in before:
        assert now[part] == before[part], f"{name}.yaml, {part}: {ASKED_AGAIN}"
    assert now.keys() == before.keys()


@pytest.mark.parametrize("name", sorted(FROZEN_FILES))
def test_files_that_decide_answers_stay_as_they_are(name: str) -> None:
    content = Path(str(resources.files("sfray") / name)).read_bytes()
    assert hashlib.sha256(content).hexdigest() == FROZEN_FILES[name], (
        f"sfray/{name} decides what was answered with it, {ASKED_AGAIN}; a better one gets a new "
        "name, beside this one"
    )


def test_what_identity_leaves_out_of_a_uri_stays() -> None:
    frozen = json.loads((IDS / "identity_of_uris.json").read_text(encoding="utf-8"))
    assert frozen["constants"] == [
        list(redaction._SIGNING_PREFIXES),
        list(redaction._SIGNING_PARTS),
        redaction._SIGNING_NAMES.split(),
        redaction._WITH_SIG.split(),
    ], f"what is to be hidden besides is no matter of identity: {ASKED_AGAIN}"
    for uri, identity in frozen["uris"].items():
        assert redaction.identity_uri(uri) == identity, ASKED_AGAIN


def test_the_answer_format_keeps_its_number() -> None:
    assert plan._ANSWER_FORMAT == 2, f"the number is in every fingerprint: {ASKED_AGAIN}"
