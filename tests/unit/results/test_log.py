import errno
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sfray.config import StorageSpec
from sfray.errors import OutputInUseError, SchemaError, StorageError
from sfray.results import read as read_results
from sfray.results.log import ResultsLog
from sfray.storage.local_folder import LocalFolder
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

LOCAL = StorageSpec()


def open_log(uri, run_id="run-1", *, passthrough=PASSTHROUGH, flush_rows=1000, flush_seconds=30):
    return ResultsLog.open(
        str(uri),
        LOCAL,
        passthrough=passthrough,
        run_id=run_id,
        flush_rows=flush_rows,
        flush_seconds=flush_seconds,
    )


def ids(folder):
    return sorted(ds.dataset(folder, format="parquet").to_table()["request_id"].to_pylist())


def parts(folder):
    return sorted(p.name for p in folder.iterdir())


def test_answers_and_failures_are_plain_parquet(tmp_path):
    with open_log(tmp_path / "out") as log:
        log.append(outcomes(["a", "b"], ["c"]))
        log.flush()
        log.append(outcomes(["d"]))
    assert ids(tmp_path / "out/answers") == ["a", "b", "d"]
    assert ids(tmp_path / "out/failures") == ["c"]
    told = duckdb.read_parquet(f"{tmp_path}/out/answers/*.parquet").order("request_id").fetchall()
    assert [row[0] for row in told] == ["a", "b", "d"]
    table = read_results.read_answers(str(tmp_path / "out"), LOCAL).to_table()
    assert table["token_ids"].to_pylist() == [[1, 2]] * 3
    assert table.column_names[-1] == "source"
    # A fence and two parts of rows; a fence and one part.
    assert parts(tmp_path / "out/answers") == [f"part-{n:08d}.parquet" for n in range(3)]
    assert parts(tmp_path / "out/failures") == [f"part-{n:08d}.parquet" for n in range(2)]
    assert parts(tmp_path / "out/_sfray/tmp") == []


def test_a_fresh_output_is_empty_and_readable(tmp_path):
    with open_log(tmp_path) as log:
        assert len(log.answered_ids()) == 0
        assert log.before.latest_failures.num_rows == 0
        assert ids(tmp_path / "answers") == []
        assert duckdb.read_parquet(f"{tmp_path}/failures/*.parquet").fetchall() == []


def test_a_rerun_knows_what_is_done(tmp_path):
    with open_log(tmp_path) as log:
        log.append(outcomes(["a"], ["b", "c"]))
    with open_log(tmp_path, "run-2") as log:
        assert log.answered_ids().to_pylist() == ["a"]
        assert log.before.latest_failures.to_pylist() == [
            {"request_id": i, "code": "fetch_failed", "transient": True, "attempts": 1}
            for i in "bc"
        ]
        log.append(outcomes(["b"], ["a"]))
        log.append(outcomes(failed=["c"], code="not_a_video", attempts=2))
        log.flush()
        assert sorted(log.answered_ids().to_pylist()) == ["a", "b"]
    assert ids(tmp_path / "answers") == ["a", "b"]
    assert ids(tmp_path / "failures") == ["b", "c", "c"]
    progress = read_results.read_progress(str(tmp_path), LOCAL)
    assert progress.latest_failures.to_pylist() == [
        {"request_id": "c", "code": "not_a_video", "transient": False, "attempts": 2}
    ]
    state = read_results.current_state(str(tmp_path), LOCAL, ["request_id", "code", "text"])
    assert state.to_pylist() == [
        {"request_id": "a", "code": None, "text": "text of a"},
        {"request_id": "b", "code": None, "text": "text of b"},
        {"request_id": "c", "code": "not_a_video", "text": None},
    ]


def test_rows_are_logged_once(tmp_path):
    with open_log(tmp_path, flush_rows=1) as log:
        log.append(outcomes(["a", "b", "a"], ["b", "c", "c"]))
        log.append(outcomes(["c", "a"], ["a"]))
    assert ids(tmp_path / "answers") == ["a", "b"]
    assert ids(tmp_path / "failures") == ["c"]


def test_rows_are_written_by_number_and_by_age(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("sfray.results.log.time.monotonic", lambda: now[0])
    with open_log(tmp_path, flush_rows=3, flush_seconds=30) as log:
        log.append(outcomes(["a", "b"]))
        log.maybe_flush()
        assert ids(tmp_path / "answers") == []
        log.append(outcomes(["c"]))
        assert ids(tmp_path / "answers") == ["a", "b", "c"]
        log.append(outcomes(["d"]))
        now[0] += 28
        log.maybe_flush()
        assert len(ids(tmp_path / "answers")) == 3
        now[0] += 1  # the next call would come too late
        log.maybe_flush()
        assert len(ids(tmp_path / "answers")) == 4


def test_what_was_answered_is_kept_when_the_run_breaks(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_log(tmp_path) as log:
        log.append(outcomes(["a"]))
        raise KeyboardInterrupt
    assert ids(tmp_path / "answers") == ["a"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("applied", [False, True])
def test_a_flush_that_is_cut_short_doubles_nothing(tmp_path, monkeypatch, number, applied):
    put, left = LocalFolder.put_new, [number]

    def interrupted(self, key, body, writer):
        left[0] -= "part-" in key
        if left[0] or applied:
            put(self, key, body, writer)
        if not left[0]:
            raise KeyboardInterrupt

    log = open_log(tmp_path)
    log.append(outcomes(["a"], ["b"]))
    monkeypatch.setattr(LocalFolder, "put_new", interrupted)
    with pytest.raises(KeyboardInterrupt), log:
        log.flush()
    monkeypatch.undo()
    with open_log(tmp_path, "run-2") as log:
        log.append(outcomes(["a"], ["b"]))
    assert ids(tmp_path / "answers") == ["a"]
    assert read_results.read_progress(str(tmp_path), LOCAL).latest_failures.num_rows == 1


def test_run_files_and_attempts(tmp_path):
    with open_log(tmp_path) as log:
        log.write_run_file("run-1", "spec.yaml", b"name: x\n")
        log.write_run_file("run-1", "requests.parquet", outcomes(["a"]).select(["request_id"]))
        log.log_attempt(pa.array(["a", "b"]))
        log.log_attempt(pa.chunked_array([["a"]]))
        with pytest.raises(StorageError, match="exists already"):
            log.write_run_file("run-1", "spec.yaml", b"name: y\n")
    run = tmp_path / "_sfray/runs/run-1"
    assert (run / "spec.yaml").read_text() == "name: x\n"
    assert pq.read_table(run / "requests.parquet").to_pylist() == [{"request_id": "a"}]
    with open_log(tmp_path, "run-2") as log:
        counts = {r["request_id"]: r["attempts"] for r in log.before.lone_attempts.to_pylist()}
        assert counts == {"a": 2, "b": 1}


def test_a_second_opener_is_told_who_has_it(tmp_path):
    with (
        open_log(tmp_path),
        pytest.raises(OutputInUseError, match=r"in use by run run-1 \(process"),
    ):
        open_log(tmp_path, "run-2")
    with open_log(tmp_path, "run-2"):
        pass


def steal(tmp_path, monkeypatch):
    """A second writer past the lease, as if the lock did not work (NFS) or the first had slept."""
    monkeypatch.setattr("sfray.storage.local_folder.fcntl.flock", lambda *_: None)
    return open_log(tmp_path, "run-2")


def test_a_writer_that_wakes_up_finds_its_number_taken(tmp_path, monkeypatch):
    stale = open_log(tmp_path)
    stale.append(outcomes(["a"]))
    stale.flush()
    stale.append(outcomes(["b"]))
    with steal(tmp_path, monkeypatch) as log:
        assert log.answered_ids().to_pylist() == ["a"]
        with pytest.raises(OutputInUseError, match="another run has taken over"):
            stale.flush()
        log.append(outcomes(["b", "c"]))
    stale.close()  # has nothing more to say
    assert ids(tmp_path / "answers") == ["a", "b", "c"]
    assert not (tmp_path / "_sfray/runs/run-1/end.json").exists()


def test_failures_are_fenced_too(tmp_path, monkeypatch):
    stale = open_log(tmp_path)
    stale.append(outcomes(failed=["a"]))
    with steal(tmp_path, monkeypatch), pytest.raises(OutputInUseError):
        stale.flush()
    assert ids(tmp_path / "failures") == []


@pytest.mark.parametrize(
    ("passthrough", "message"),
    [
        (pa.schema([]), "has the column 'source', this job not"),
        (pa.schema([("source", pa.string()), ("x", pa.int64())]), "has no column 'x'"),
        (pa.schema([("source", pa.int64())]), "'source' .* has the type string, not int64"),
    ],
)
def test_the_first_run_freezes_the_columns(tmp_path, passthrough, message):
    with open_log(tmp_path) as log:
        log.append(outcomes(["a"]))
    with pytest.raises(SchemaError, match=message):
        open_log(tmp_path, "run-2", passthrough=passthrough)
    with open_log(tmp_path, "run-3"):  # the lease was given back
        pass


def test_columns_keep_the_order_of_the_first_run(tmp_path):
    first = pa.schema([("source", pa.string()), ("x", pa.int64())])
    with open_log(tmp_path, passthrough=first):
        pass
    with open_log(tmp_path, "run-2", passthrough=pa.schema(list(first)[::-1])) as log:
        log.append(outcomes(["a"]).append_column("x", pa.array([7])))
    table = read_results.read_answers(str(tmp_path), LOCAL).to_table()
    assert table.column_names[-2:] == ["source", "x"]
    assert table["x"].to_pylist() == [7]


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    log = open_log(tmp_path)
    log.append(outcomes(["a"]))
    real_write = os.write

    def full(descriptor, data):
        real_write(descriptor, bytes(data[:10]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="can't be written: the disk is full"):
        log.flush()
    log.close()
    monkeypatch.undo()
    assert ids(tmp_path / "answers") == []
    assert parts(tmp_path / "_sfray/tmp") == []


@pytest.fixture
def nobodys_folder():
    """A folder of this process, which is nobody meanwhile where it is root, who may write all."""
    with tempfile.TemporaryDirectory() as folder:
        with open_log(Path(folder) / "imports"):
            pass  # nobody might not read the code
        if os.geteuid() != 0:
            yield Path(folder)
            return
        nobody = pwd.getpwnam("nobody").pw_uid
        os.chown(folder, nobody, -1)
        os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_a_folder_without_permission_is_one_sentence(nobodys_folder):
    (nobodys_folder / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission denied"):
        open_log(nobodys_folder / "locked/out")


def test_outputs_are_folders_on_disk_or_s3(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file; it must be a folder"):
        open_log(tmp_path / "file")
    with pytest.raises(StorageError, match="outputs go to a local folder or s3://"):
        open_log("https://h/out?token=s3cr3t")


def test_reading_where_no_run_has_been(tmp_path):
    progress = read_results.read_progress(str(tmp_path / "none"), LOCAL)
    assert len(progress.answered_ids) == progress.latest_failures.num_rows == 0
    for read in (read_results.current_state, read_results.read_answers):
        with pytest.raises(StorageError, match="holds no results"):
            read(str(tmp_path / "none"), LOCAL)
    assert not (tmp_path / "none").exists()


def test_leftovers_of_killed_writers_go_away(tmp_path):
    with open_log(tmp_path):
        pass
    (tmp_path / "_sfray/tmp/leftover").write_bytes(b"half a part")
    with open_log(tmp_path, "run-2"):
        assert parts(tmp_path / "_sfray/tmp") == []


def test_a_killed_writer_frees_the_output(tmp_path):
    """SIGKILL: what was flushed is there, what was not isn't, and the next run may begin."""
    script = f"""
        import os, signal
        from tests.unit.results.test_log import open_log, outcomes
        log = open_log({str(tmp_path)!r})
        log.append(outcomes(["a"]))
        log.flush()
        log.append(outcomes(["b"]))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)  # noqa: S603
    assert done.returncode == -signal.SIGKILL
    with open_log(tmp_path, "run-2") as log:
        assert log.answered_ids().to_pylist() == ["a"]
        assert log.num_lost_before == 1
        log.append(outcomes(["b"]))
    with open_log(tmp_path, "run-3") as log:
        assert log.num_lost_before == 0


REQUEST_IDS = st.sets(st.sampled_from("abcdefgh"))


class LogMachine(RuleBasedStateMachine):
    """Any order of runs, appends, flushes and crashes against a model in memory."""

    @initialize(folder=st.just(None))
    def begin(self, folder):
        self.folder = self.folders.mktemp("log")
        self.answered, self.failed = set(), {}
        self.waiting_answers, self.waiting_failures, self.seen = set(), {}, set()
        self.runs = 0
        self.log = self._open()

    def _open(self):
        self.runs += 1
        return open_log(self.folder, f"run-{self.runs}", flush_rows=10**9, flush_seconds=10**9)

    @rule(
        answered=REQUEST_IDS,
        failed=REQUEST_IDS,
        code=st.sampled_from(["fetch_failed", "not_found"]),
    )
    def append(self, answered, failed, code):
        self.log.append(outcomes(sorted(answered), sorted(failed), code))
        fresh = answered - self.answered - self.seen
        self.waiting_answers |= fresh
        self.seen |= fresh
        fresh = failed - self.answered - self.seen
        self.waiting_failures |= dict.fromkeys(fresh, code)
        self.seen |= fresh

    @rule()
    def flush(self):
        self.log.flush()
        self._flushed()

    def _flushed(self):
        self.answered |= self.waiting_answers
        self.failed |= self.waiting_failures
        self.waiting_answers, self.waiting_failures = set(), {}

    @rule(crash=st.booleans())
    def reopen(self, crash):
        if crash:
            self.log._lease.release()  # what the system does when a process dies
        else:
            self.log.close()
            self._flushed()
        self.waiting_answers, self.waiting_failures, self.seen = set(), {}, set()
        self.log = self._open()
        assert set(self.log.answered_ids().to_pylist()) == self.answered

    @invariant()
    def log_equals_model(self):
        progress = read_results.read_progress(str(self.folder), LOCAL)
        told = {r["request_id"]: r["code"] for r in progress.latest_failures.to_pylist()}
        assert sorted(progress.answered_ids.to_pylist()) == sorted(self.answered)
        assert told == {i: c for i, c in self.failed.items() if i not in self.answered}

    def teardown(self):
        self.log.close()


def test_any_order_of_events(tmp_path_factory):
    LogMachine.folders = tmp_path_factory
    machine = LogMachine.TestCase
    machine.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
    machine().runTest()
