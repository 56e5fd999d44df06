import pickle

import pytest

from sfray.errors import FAILURE_KINDS, RequestError


def test_every_code_has_a_stage_of_the_pipeline_and_a_meaning() -> None:
    stages = {"manifest", "prompt", "fetch", "probe", "decode", "model", "pipeline"}
    for code, kind in FAILURE_KINDS.items():
        assert kind.stage in stages, code
        assert kind.meaning, code
        assert code == code.lower()


def test_an_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        RequestError("no_such_code", "message")


def test_a_request_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(RequestError("not_found", "gone")))  # noqa: S301 - our own
    assert (error.code, str(error), error.kind.transient) == ("not_found", "gone", False)
