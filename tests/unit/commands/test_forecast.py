from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sfray.commands.forecast import Forecast, Prices, read_prices
from sfray.errors import SpecError
from sfray.planning.prediction import Capacity, ClipTimes, Measured, predict


def test_prices_come_from_a_file_and_from_options_which_go_first(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("{cpu_hour: 0.04, gpu_hour: 1, currency: EUR}")
    assert read_prices(None, None, None) is None
    assert read_prices(path, None, None) == Prices(cpu_hour=0.04, gpu_hour=1.0, currency="EUR")
    assert read_prices(path, None, 2.5) == Prices(cpu_hour=0.04, gpu_hour=2.5, currency="EUR")
    assert read_prices(None, 0.1, None) == Prices(cpu_hour=0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{gpu: 1}", "gpu is 1.*allowed are the keys: cpu_hour, gpu_hour, currency"),
        ("{gpu_hour: -1}", "gpu_hour is -1.*greater than or equal to 0"),
        ("{gpu_hour: [}", "can't be read"),
        ("7", "all of it is 7"),
    ],
)
def test_wrong_prices_are_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words) as raised:
        read_prices(path, None, None)
    assert "\n" not in str(raised.value)


def test_the_forecast_tells_time_gpu_hours_and_cost() -> None:
    clips = tuple(
        ClipTimes(video_id=f"v{n}", fetch_seconds=0.5, decode_seconds=1.5, replica_seconds=1.0)
        for n in range(4)
    )
    measured = Measured(
        clips=clips, replica_cores=0, startup_seconds=0.0, failures_by_code={"not_found": 1}
    )
    capacity = Capacity(num_cpus=16, num_gpus=2, num_workers=8, num_replicas=2)
    screen = io.StringIO()
    forecast = Forecast(
        measured=measured,
        prediction=predict(measured, 7200, capacity),
        prices=Prices(cpu_hour=0.5, gpu_hour=2.0),
    )
    forecast.print_to(Console(file=screen, width=100))
    shown = screen.getvalue()
    for words in (
        "predicted for 16 CPUs, 2 GPUs",
        "4 clips, 1 failed: 1 not_found",
        "2 s of a worker a clip",
        "4 decode workers",
        "1:00:00 (1:00:00 to 1:00:00)",
        "2.00 (2.00 to 2.00)",
        "12.00 (12.00 to 12.00) USD",
    ):
        assert words in shown
    told = json.loads(json.dumps(forecast.as_dict()))
    assert told["seconds"]["middle"] == pytest.approx(3600)
    assert (told["gpu_hours"]["middle"], told["cost"]["middle"], told["currency"]) == (2, 12, "USD")
    assert (told["num_measured"], told["failures_by_code"]) == (4, {"not_found": 1})
