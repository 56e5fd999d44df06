"""The committed outputs as people have them: in a folder of their own, beside their videos."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sfray.config import JobSpec, load_job_spec
from tests.golden.make_outputs import CASES, LATE, OUTPUT, VIDEOS, Case

OUTPUTS = Path(__file__).parent / "outputs"
# Every output of every format that any version wrote.
ALL = sorted(
    f"{path.parent.parent.name}/{path.parent.name}" for path in OUTPUTS.glob("*/*/job.yaml")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One output in the working folder."""

    name: str
    folder: Path

    @property
    def case(self) -> Case:
        return CASES[self.name.partition("/")[2]]

    @property
    def format(self) -> int:
        return int(self.name.partition("/")[0].removeprefix("format"))

    @property
    def logs(self) -> list[Path]:
        """The folders that hold answers and failures."""
        return sorted(path.parent for path in (self.folder / OUTPUT).rglob("answers"))

    def jobs(self, **output: Any) -> list[JobSpec]:
        """The jobs of one night, one for each partition."""
        sets = [f"output.{name}={value}" for name, value in output.items()]
        return [load_job_spec("job.yaml", (*night, *sets)) for night in self.case.sets]

    def state(self) -> dict[str, str]:
        """text or code by request id, read part by part with Parquet's own reader."""
        found: dict[str, str] = {}
        for log in self.logs:
            for name, column in (("failures", "code"), ("answers", "text")):
                for part in sorted((log / name).iterdir()):
                    table = pq.ParquetFile(part).read(columns=["request_id", column])
                    found |= dict(zip(*(c.to_pylist() for c in table.columns), strict=True))
        return found


def copied(name: str, folder: Path) -> Golden:
    """Copies a committed output, and its videos as they were after its last night."""
    shutil.copytree(OUTPUTS / name, folder, dirs_exist_ok=True)
    shutil.copytree(VIDEOS, folder / "videos")
    shutil.copy(VIDEOS / "two.mp4", folder / "videos" / LATE)
    return Golden(name=name, folder=folder)
