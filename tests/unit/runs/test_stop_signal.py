import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from sfray.pipeline.cluster import own_sigterm
from sfray.runs.stop_signal import stop_signal


@pytest.fixture
def answer() -> Iterator[object]:
    def ours(number: int, frame: object) -> None:
        raise AssertionError("not while Ray's is set")

    before = signal.signal(signal.SIGTERM, ours)
    yield ours
    signal.signal(signal.SIGTERM, before)


def as_ray_does() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))


def test_ray_does_not_change_the_answer_to_sigterm(answer: object) -> None:
    with own_sigterm():
        as_ray_does()
    assert signal.getsignal(signal.SIGTERM) is answer


def test_sigterm_while_ray_starts_has_the_exit_code_of_sigterm(answer: object) -> None:
    with pytest.raises(SystemExit) as caught, own_sigterm():
        as_ray_does()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is answer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_wish_and_the_second_interrupts(number: int, code: int) -> None:
    with stop_signal() as stop:
        os.kill(os.getpid(), number)
        assert (stop.number, stop.exit_code) == (number, code)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
