"""The command line as a user calls it, in processes of its own where exit codes matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from sfray import __version__
from sfray.cli.app import app
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render

ROOT = Path(__file__).parents[3]


def sfray(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sfray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    rows = [{"video_uri": f"v{n}.mp4", "question_id": "q", "question": "What?"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "manifest.parquet")
    path = tmp_path / "job.yaml"
    path.write_text(
        f"manifest: {{uri: {tmp_path}/manifest.parquet}}\ntask: qa\nmodel: {{id: demo}}\n"
        f"output: {{uri: {tmp_path}/out}}\n"
    )
    return path


def test_a_plan_starts_neither_ray_nor_torch(spec: Path) -> None:
    code = (
        "import sys; from sfray.cli.app import app\n"
        f"app(['plan', {str(spec)!r}], standalone_mode=False)\n"
        "heavy = {'ray', 'torch', 'transformers', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr
    assert "3 requests on 3 videos" in done.stdout


def test_a_driver_has_no_use_for_torch() -> None:
    code = "import sys, sfray.runs.run; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "sampling.seek=fast"], "'fast'"),
        (["--set", "tusk=qa"], "tusk"),
        (["--set", "manifest.uri=nowhere.parquet"], "nowhere.parquet"),
        (["--set", "model.id=no-such-model"], "no-such-model"),
        (["--set", "template=no-such-file.txt"], "no-such-file.txt"),
        (["--partition", "16/16"], "'16/16', but: a partition is i/n"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_a_user_can_cause_is_one_sentence_and_exit_code_2(
    spec: Path, command: str, arguments: list[str], words: str
) -> None:
    done = sfray(command, str(spec), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_errors_are_events_where_logs_are(spec: Path) -> None:
    done = sfray("run", str(spec), "--set", "model.id=no-such-model", "--log-format", "json")
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert (event["level"], event["exit_code"], done.returncode) == ("error", 2, 2)
    assert "no-such-model" in event["event"]


def test_a_plan_is_one_object(spec: Path) -> None:
    done = sfray("plan", str(spec), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["num_rows"], told["num_requests"], told["num_to_do"]) == (3, 3, 3)
    assert (told["num_videos"], told["num_clips_asked_by_a_run"], told["problems"]) == (3, 3, [])
    assert told["forecast"] is None and told["weights_bytes"] > 1e6
    assert set(told["num_replicas_by_gpu_gib"]) == {"24", "48", "80"}


@pytest.mark.parametrize("name", [[], ["answers"]])
def test_a_schema_is_one_document(name: list[str]) -> None:
    document = json.loads(sfray("schema", *name, "--json").stdout)
    assert document["columns"] if name else "job" in document


def test_a_missing_job_file_is_exit_code_2(tmp_path: Path) -> None:
    done = sfray("run", str(tmp_path / "none.yaml"))
    assert done.returncode == 2 and "none.yaml" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_a_job_runs_ends_it_without_a_traceback(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    job = tmp_path / "job.yaml"
    os.mkfifo(job)
    command = [sys.executable, "-m", "sfray", "plan", str(job)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own command
    with job.open("wb"):  # opens once the command reads it
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip()) == (code, "")


def test_probe_prints_a_json_line_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "scene.mp4", render(make_scene(1)))
    (tmp_path / "text.mp4").write_text("no video")
    done = sfray("probe", str(tmp_path / "scene.mp4"), str(tmp_path / "text.mp4"))
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["codec"], good["width"], good["height"]) == ("h264", 128, 128)
    assert bad["code"] == "not_a_video"
    assert done.returncode == 3


def test_schemas_in_the_repository_are_those_of_the_code() -> None:
    from sfray.commands.schemas import codes_table, schema_document, schema_names

    for name in schema_names():
        written = json.loads((ROOT / "schemas" / f"{name}.v1.json").read_text())
        assert written == json.loads(json.dumps(schema_document(name))), (
            f"run `make schemas`: {name}"
        )
    assert (ROOT / "schemas" / "codes.md").read_text() == codes_table()


def test_every_command_has_a_help_worth_reading() -> None:
    done = sfray("--help")
    for command in ("run", "plan", "demo", "probe", "show", "schema"):
        assert command in done.stdout
        assert len(sfray(command, "--help").stdout.splitlines()) > 5


def commands_of(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """A group and all that is in it, each by what is typed."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands_of(inner, *path, name)


def test_h_is_help_everywhere() -> None:
    paths = list(commands_of(get_command(app)))
    assert {(), ("run",), ("logs",), ("verify",), ("eval",), ("eval", "report")} <= set(paths)
    for path in paths:
        short, long = (CliRunner().invoke(app, [*path, name]) for name in ("-h", "--help"))
        assert short.exit_code == 0, path
        assert short.output == long.output
        assert "-h, --help" in short.output


def test_the_version_is_told() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"sfray {__version__}\n")
