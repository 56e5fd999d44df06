"""Installs a wheel into an empty environment and uses it from a folder far from the repository.

    python tools/try_wheel.py dist/sfray-*.whl

It goes as a stranger's first minutes do: install, version, help, the demonstration, a plan. Then
the tutorial of the first day is followed with it, by the test that reads the tutorial.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
FIRST_DAY = ROOT / "tests" / "integration" / "test_first_day.py"
# Of the manifest that the demonstration leaves behind.
JOB = """\
manifest: {uri: demo-output/videos/qa.parquet}
task: qa
model: {id: demo}
output: {uri: answers}
"""


def main() -> None:
    """Ends with the exit code of the first command that fails."""
    (wheel,) = (Path(path).absolute() for path in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="sfray-dist-") as scratch:
        environment, folder = Path(scratch, "venv"), Path(scratch, "elsewhere")
        folder.mkdir()
        venv.create(environment, with_pip=True)
        python, sfray = environment / "bin" / "python", environment / "bin" / "sfray"
        # Compiling all of torch takes longer than what a first use loads of it.
        install = (python, "-m", "pip", "install", "--quiet", "--no-compile")
        call(folder, *install, "-c", CONSTRAINTS, wheel)
        call(folder, python, "-m", "pip", "check")
        call(folder, python, "-c", "import sfray; assert 'site-packages' in sfray.__file__")
        call(folder, sfray, "--version")
        call(folder, sfray, "-h")
        call(folder, sfray, "demo", "--num-videos", "1")
        (folder / "job.yaml").write_text(JOB)
        call(folder, sfray, "plan", "job.yaml")
        first_day = (sys.executable, "-m", "pytest", "-q", FIRST_DAY)
        call(ROOT, *first_day, SFRAY_TEST_BIN=str(python.parent))


def call(folder: Path, *command: str | Path, **variables: str) -> None:
    """Runs a command in a folder, in an environment that knows nothing of the repository."""
    began = time.monotonic()
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    known |= variables
    done = subprocess.run(list(map(str, command)), cwd=folder, env=known, check=False)  # noqa: S603 - our own commands
    words = " ".join(Path(word).name for word in map(str, command))
    print(f"{time.monotonic() - began:.0f} s: {words}", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
