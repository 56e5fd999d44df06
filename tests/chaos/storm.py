"""One storm: a job, several faults at seeded moments, reruns until it is done, and the account."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libfaketime
import psutil

from sfray.config import StorageSpec
from sfray.results.verify import verify
from sfray.storage.folders import open_folder
from tests.chaos.check import Place, Reader, num_doubled, read_rows
from tests.chaos.driver import Told, write_whole
from tests.chaos.faults import ANYWHERE, FAULTS, LOCAL, POISON, S3
from tests.chaos.stages import POISONED, Note, read_journal
from tests.chaos.world import NUM_QUESTIONS, NUM_VIDEOS, World

_NUM_FAULTS = 8
_MAX_RERUNS = 15
_STAGE_SECONDS = 0.6
_RUN_SECONDS = 400
_DONE = (0, 3)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides. Moments are counts of videos that the stages have met."""

    seed: int
    on_s3: bool
    faults: tuple[tuple[int, str], ...]
    poison: tuple[str, ...]

    @classmethod
    def of(cls, seed: int, only: str | None = None) -> Plan:
        chance = random.Random(seed)
        on_s3 = only in S3 or (only not in LOCAL and chance.random() < 0.5)
        kinds = [*ANYWHERE, *(S3 if on_s3 else LOCAL), POISON]
        chosen = [only] * _NUM_FAULTS if only else chance.choices(kinds, k=_NUM_FAULTS)
        moments = sorted(chance.randint(3, 2 * NUM_VIDEOS - 20) for _ in chosen)
        faults = [(m, kind) for m, kind in zip(moments, chosen, strict=True) if kind != POISON]
        poison = (f"v{chance.randrange(NUM_VIDEOS):03d}",) if POISON in chosen else ()
        return cls(seed, on_s3, tuple(faults), poison)

    @property
    def real_decode(self) -> bool:
        return any(kind == "decode_child_killed" for _, kind in self.faults)


@dataclass
class Account:
    """How a storm ended. `complaints` are of the reader in the middle and of `verify`."""

    seed: int
    on_s3: bool
    injected: Counter[str] = field(default_factory=Counter)
    landed: Counter[str] = field(default_factory=Counter)
    reruns: Counter[str] = field(default_factory=Counter)
    exit_codes: list[int] = field(default_factory=list)
    num_failed_for_a_while: int = 0
    num_lost: int = 0
    num_doubled: int = 0
    num_texts_different: int = 0
    num_reads: int = 0
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Storm:
    """Use `run`; the faults work on the rest."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.folder = world.folder / f"storm-{plan.seed}-{time.monotonic_ns()}"
        self.folder.mkdir()
        self.account = Account(plan.seed, plan.on_s3)
        self.exit_codes = self.account.exit_codes
        self.clock_offset_seconds = 0
        self._output = self._new_output()
        self.driver: psutil.Popen

    def _new_output(self) -> str:
        if self.plan.on_s3:
            return f"s3://{self.world.server.new_bucket()}/out"
        return str((self.world.disk or self.world.folder) / self.folder.name)

    @property
    def _direct(self) -> StorageSpec:
        """Past the proxy."""
        return self.world.server.storage if self.plan.on_s3 else StorageSpec()

    def journal(self) -> list[Note]:
        return read_journal(self.folder)

    def num_runs_begun(self) -> int:
        """Drivers that had the output for themselves and logged what they were asked."""
        return len(open_folder(self._output, self._direct).list_folders("_sfray/runs/"))

    def write_clock(self) -> None:
        write_whole(self.folder / "clock", f"{self.clock_offset_seconds:+d}\n")

    def start_driver(self, *, retry: Sequence[str] = ()) -> psutil.Popen:
        plan = self.plan
        told = Told(
            spec=self._spec(),
            address=self.world.cluster.address,
            folder=str(self.folder),
            real_decode=plan.real_decode,
            seconds=_STAGE_SECONDS,
            poison=list(plan.poison),
            retry=list(retry),
        )
        variables = {}
        if any(kind == "clock_back" for _, kind in plan.faults):
            self.write_clock()
            variables = {
                "LD_PRELOAD": _faketime_library(),
                "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        path = told.write(self.folder / "told.json")
        return self.world.start_driver(path, self.folder / "drivers.log", variables)

    def _spec(self) -> dict[str, Any]:
        return {
            "manifest": {"uri": str(self.world.manifest)},
            "task": "qa",
            "model": {"id": "demo"},
            "resources": {
                "decode_workers": {"min": 1, "max": 2},
                "model_replicas": {"min": 1, "max": 2},
            },
            "output": {"uri": self._output, "flush_rows": 8, "flush_seconds": 2},
            "limits": {"max_failure_ratio": 0.5},
            "storage": self.world.storage.model_dump() if self.plan.on_s3 else {},
        }

    def run(self, undisturbed: dict[str, str]) -> Account:
        """Runs the job through the storm until it is done, and compares.

        Args:
            undisturbed: text by request id of the same job without a fault.
        """
        began = time.monotonic()
        self.world.heal()
        with Reader(Place(f"{self._output}/answers", self._direct)) as reader:
            try:
                self._weather()
                self._retry_what_failed()
            finally:
                if self.driver.is_running():
                    self.driver.kill()
        self.account.num_reads = reader.num_reads
        self.account.complaints += reader.complaints
        self._compare(undisturbed)
        self.account.seconds = round(time.monotonic() - began, 1)
        if not self.plan.on_s3:
            shutil.rmtree(self._output)
        return self.account

    def texts(self) -> dict[str, str]:
        """Text by request id, as a stranger reads it."""
        return dict(read_rows(Place(f"{self._output}/answers", self._direct), "text"))

    def _weather(self) -> None:
        account = self.account
        account.injected.update(kind for _, kind in self.plan.faults)
        account.injected.update([POISON] * len(self.plan.poison))
        chance = random.Random(self.plan.seed)
        pending, last = list(self.plan.faults), "nothing"
        self.driver, started = self.start_driver(), time.monotonic()
        while True:
            code = self.driver.poll()
            if code is None and time.monotonic() - started > _RUN_SECONDS:
                account.complaints.append(f"a run took longer than {_RUN_SECONDS} s")
                self.driver.kill()
            elif code in _DONE:
                break
            elif code is not None:
                self.exit_codes.append(code)
                account.reruns[last] += 1
                if account.reruns.total() > _MAX_RERUNS:
                    account.complaints.append(f"not done after {_MAX_RERUNS} reruns")
                    break
                self.driver, started = self.start_driver(), time.monotonic()
            elif pending and len(self.journal()) >= pending[0][0]:
                _, last = pending.pop(0)
                self._inject(last, chance)
                started = time.monotonic()
            time.sleep(0.05)
        self.exit_codes.append(code or 0)
        account.landed[POISON] += (self.folder / POISONED).exists()

    def _inject(self, kind: str, chance: random.Random) -> None:
        landed = FAULTS[kind](self, chance)
        if isinstance(landed, Counter):
            self.account.injected[kind] -= 1
            self.account.injected.update(landed)
            self.account.landed.update(landed)
        else:
            self.account.landed[kind] += landed

    def _retry_what_failed(self) -> None:
        """What lost its worker again and again through the storm, as `sfray retry` does."""
        failed = [i for i, video_id in self._failed().items() if video_id not in self.plan.poison]
        self.account.num_failed_for_a_while = len(failed)
        if failed:
            code = self.start_driver(retry=failed).wait(timeout=_RUN_SECONDS)
            self.exit_codes.append(code)

    def _failed(self) -> dict[str, str]:
        """Video ids by id of the requests that have failures only, as a stranger reads them."""
        failed = dict(read_rows(Place(f"{self._output}/failures", self._direct), "video_id"))
        answered = self.texts()
        return {i: video_id for i, video_id in failed.items() if i not in answered}

    def _compare(self, undisturbed: dict[str, str]) -> None:
        """Every request has the undisturbed run's text, those of poison a failure, each once."""
        account = self.account
        rows = read_rows(Place(f"{self._output}/answers", self._direct), "text")
        texts, failed = dict(rows), self._failed()
        account.num_doubled = num_doubled(rows)
        account.num_lost = len(undisturbed.keys() - texts.keys() - failed.keys())
        account.num_texts_different = sum(undisturbed.get(i) != text for i, text in texts.items())
        poisoned = [i for i, video_id in failed.items() if video_id in self.plan.poison]
        if len(poisoned) != NUM_QUESTIONS * len(self.plan.poison) or len(failed) > len(poisoned):
            account.complaints.append(f"{len(failed)} requests failed, {len(poisoned)} of poison")
        account.complaints += verify(self._output, self._direct).problems


def undisturbed(world: World, real_decode: bool) -> dict[str, str]:
    """Text by request id of the job without a fault."""
    far = ((10**9, "decode_child_killed"),) if real_decode else ()
    storm = Storm(world, Plan(seed=0, on_s3=False, faults=far, poison=()))
    code = storm.start_driver().wait(timeout=_RUN_SECONDS)
    if code:
        raise RuntimeError((storm.folder / "drivers.log").read_text())
    return storm.texts()


def _faketime_library() -> str:
    """libfaketime as a library to be loaded before all others."""
    source = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src"
    return str(source / "libfaketime.so.1")
