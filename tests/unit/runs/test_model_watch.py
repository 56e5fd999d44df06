import pyarrow as pa
import pytest

from sfray.errors import TooManyErrorsError
from sfray.runs.model_watch import ModelWatch

ANSWER = {"stage": None, "message": None}
NO_VIDEO = {"stage": "fetch", "message": "it does not exist"}


def broken(number: int) -> dict[str, str]:
    return {"stage": "model", "message": f"no kernel {number}"}


def see(watch: ModelWatch, *rows: dict[str, str] | dict[str, None]) -> None:
    schema = pa.schema([("stage", pa.string()), ("message", pa.string())])
    watch.see(pa.Table.from_pylist(list(rows), schema=schema))


def test_a_broken_model_stops_the_run_by_its_own_last_words() -> None:
    watch = ModelWatch()
    see(watch, *[ANSWER] * 20, *(broken(number) for number in range(179)))
    with pytest.raises(TooManyErrorsError, match=r"180 of the last 200 .*: no kernel 179$"):
        see(watch, broken(179), ANSWER)


def test_videos_that_fail_are_no_fault_of_the_model() -> None:
    watch = ModelWatch()
    see(watch, *[NO_VIDEO] * 1000, *(broken(number) for number in range(179)), ANSWER)


def test_failures_of_long_ago_do_not_count() -> None:
    watch = ModelWatch()
    see(watch, *(broken(number) for number in range(179)))
    see(watch, *[ANSWER] * 100, *(broken(number) for number in range(100)))
