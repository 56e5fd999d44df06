import pyarrow as pa
import pytest

from sfray.errors import SpecError
from sfray.results.retry import ids_to_retry

FAILURES = pa.table(
    {
        "request_id": ["a", "b", "c"],
        "code": ["not_found", "fetch_failed", "worker_lost"],
        "transient": [False, True, True],
    }
)


@pytest.mark.parametrize(
    ("codes", "transient", "chosen"),
    [
        ((), False, ["a", "b", "c"]),
        ((), True, ["b", "c"]),
        (("not_found", "worker_lost"), False, ["a", "c"]),
        (("not_found", "worker_lost"), True, ["c"]),
        (("decode_failed",), False, []),
    ],
)
def test_failures_are_chosen_by_code_and_kind(codes, transient, chosen):
    assert ids_to_retry(FAILURES, codes, transient=transient).to_pylist() == chosen


def test_unknown_codes_are_refused():
    with pytest.raises(SpecError, match="'oops' does not exist; allowed: invalid_row, "):
        ids_to_retry(FAILURES, ["oops"])
    with pytest.raises(SpecError, match="'notfound' does not exist, did you mean 'not_found'"):
        ids_to_retry(FAILURES, ["notfound"])
