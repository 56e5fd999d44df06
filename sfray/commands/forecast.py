"""What `sfray plan --measure` tells: a sample's times, and what the whole would take and cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field, ValidationError
from rich.console import Console
from rich.table import Table

from sfray.config import Section
from sfray.errors import SpecError
from sfray.pipeline.measure import measure, sample_clips
from sfray.planning.outlook import Outlook
from sfray.planning.prediction import Measured, Prediction, Range, predict
from sfray.telemetry.progress import clock


class Prices(Section):
    """What an hour of one CPU and of one GPU costs."""

    cpu_hour: float = Field(default=0.0, ge=0.0)
    gpu_hour: float = Field(default=0.0, ge=0.0)
    currency: str = "USD"


def read_prices(path: Path | None, cpu_hour: float | None, gpu_hour: float | None) -> Prices | None:
    """The prices of a YAML file, such as `{cpu_hour: 0.04, gpu_hour: 1.2}`, and those given, which
    go before it; None where there are neither."""
    given = {"cpu_hour": cpu_hour, "gpu_hour": gpu_hour}
    prices = {name: price for name, price in given.items() if price is not None}
    if path is None:
        return Prices.model_validate(prices) if prices else None
    try:
        read = Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SpecError(f"the file of prices {path} can't be read: {reason}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise SpecError(
            f"the file of prices {path}: {where or 'all of it'} is {problem['input']!r}, but: "
            f"{problem['msg']}; allowed are the keys: {', '.join(Prices.model_fields)}"
        ) from error
    return read.model_copy(update=prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A sample's times and the prediction for all that is to do."""

    measured: Measured
    prediction: Prediction
    prices: Prices | None

    def print_to(self, console: Console) -> None:
        """Both as a table; ranges are 95 % intervals."""
        capacity = self.prediction.capacity
        title = f"{capacity.num_cpus} CPUs, {capacity.num_gpus} GPUs"
        table = Table(title=f"predicted for {title}", show_header=False)
        for name, value in self._lines():
            table.add_row(name, value)
        console.print(table)

    def as_dict(self) -> dict[str, Any]:
        """The prediction as JSON values."""
        gpu_hours = self.prediction.gpu_hours if self.prediction.capacity.num_gpus else None
        return asdict(self.prediction) | {
            "num_measured": len(self.measured.clips),
            "failures_by_code": self.measured.failures_by_code,
            "gpu_hours": gpu_hours and asdict(gpu_hours),
            "cost": self.prices and asdict(self._cost(self.prices)),
            "currency": self.prices and self.prices.currency,
        }

    def _cost(self, prices: Prices) -> Range:
        return self.prediction.cost(prices.cpu_hour, prices.gpu_hour)

    def _lines(self) -> list[tuple[str, str]]:
        clips, prediction = self.measured.clips, self.prediction
        capacity = prediction.capacity
        failed = sum(self.measured.failures_by_code.values())
        codes = ", ".join(
            f"{n} {code}" for code, n in sorted(self.measured.failures_by_code.items())
        )
        of_workers = [clip.fetch_seconds + clip.decode_seconds for clip in clips]
        of_replicas = [clip.replica_seconds for clip in clips]
        seconds = prediction.seconds
        lines = [
            ("measured", f"{len(clips)} clips" + (f", {failed} failed: {codes}" if failed else "")),
            ("fetch and decode", f"{np.mean(of_workers):.3g} s of a worker a clip"),
            ("model", f"{np.mean(of_replicas):.3g} s of a replica a clip"),
            ("actors", f"{capacity.num_workers} decode workers, {capacity.num_replicas} replicas"),
            ("to feed the replicas", f"{prediction.workers_to_feed:.3g} decode workers"),
            ("clips to do", str(prediction.num_clips)),
            (
                "time",
                f"{clock(seconds.middle)} ({clock(seconds.low)} to {clock(seconds.high)})",
            ),
        ]
        if capacity.num_gpus:
            lines.append(("GPU-hours", _ranged(prediction.gpu_hours)))
        if self.prices:
            lines.append(("cost", f"{_ranged(self._cost(self.prices))} {self.prices.currency}"))
        return lines


def _ranged(amount: Range) -> str:
    return f"{amount.middle:.2f} ({amount.low:.2f} to {amount.high:.2f})"


def forecast(
    outlook: Outlook,
    num_clips: int,
    seed: int,
    capacity: tuple[int | None, int | None],
    prices: Prices | None,
    address: str | None,
) -> Forecast:
    """Measures `num_clips` random clips of what is to do and predicts the whole.

    Raises:
        SpecError: there are clips whose windows are not known, so that nobody knows how many
            requests there will be.
    """
    if outlook.num_uncut:
        raise SpecError(
            f"the windows of {outlook.num_uncut} clips are not known yet, so that nothing can be "
            "predicted: start the job, which finds them first"
        )
    sample = sample_clips(outlook.to_do.requests, num_clips, seed)
    measured, wanted = measure(outlook.to_do.plan, sample, capacity, address)
    return Forecast(
        measured=measured,
        prediction=predict(measured, outlook.to_do.num_clips, wanted),
        prices=prices,
    )
