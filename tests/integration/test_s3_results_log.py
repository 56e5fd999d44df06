import threading

import duckdb
import pytest
from botocore.stub import Stubber

from sfray.config import StorageSpec
from sfray.errors import OutputInUseError, StorageError
from sfray.results import read as read_results
from sfray.results.log import ResultsLog
from sfray.storage import s3_lease
from sfray.storage.folders import open_folder
from tests.unit.results.outcomes import PASSTHROUGH, outcomes
from tests.waiting import wait_until


@pytest.fixture
def uri(s3_server):
    return f"s3://{s3_server.new_bucket()}/captions/v 1/"


@pytest.fixture(autouse=True)
def short_term(monkeypatch):
    monkeypatch.setattr(s3_lease, "TERM_SECONDS", 1.0)


def open_log(uri, storage, run_id="run-1", *, wait=True):
    return ResultsLog.open(
        uri,
        storage,
        passthrough=PASSTHROUGH,
        run_id=run_id,
        flush_rows=1000,
        flush_seconds=30,
        wait_for_lease=wait,
    )


def answered(uri, storage):
    return sorted(read_results.read_progress(uri, storage).answered_ids.to_pylist())


def test_runs_and_reruns(s3_server, uri):
    storage = s3_server.storage
    with open_log(uri, storage) as log:
        log.append(outcomes(["a", "b"], ["c"]))
        log.write_run_file("run-1", "spec.yaml", b"name: x")
        log.log_attempt(outcomes(["c"])["request_id"])
    with open_log(uri, storage, "run-2") as log:
        assert sorted(log.answered_ids().to_pylist()) == ["a", "b"]
        assert log.before.latest_failures["request_id"].to_pylist() == ["c"]
        assert log.before.lone_attempts.to_pylist() == [{"request_id": "c", "attempts": 1}]
        log.append(outcomes(["a", "c"]))
    table = read_results.read_answers(uri, storage).to_table()
    assert sorted(table["request_id"].to_pylist()) == ["a", "b", "c"]
    assert read_results.current_state(uri, storage)["code"].null_count == 3
    bucket = uri.split("/")[2]
    found = s3_server.client().list_objects_v2(Bucket=bucket, Prefix="captions/v 1/answers/")
    keys = [entry["Key"].rpartition("/")[2] for entry in found["Contents"]]
    assert keys == [f"part-{n:08d}.parquet" for n in range(4)]


def test_duckdb_reads_the_answers(s3_server, uri, tmp_path):
    with open_log(uri, s3_server.storage) as log:
        log.append(outcomes(["a", "b"], ["c"]))
    client, bucket = s3_server.client(), uri.split("/")[2]
    for entry in client.list_objects_v2(Bucket=bucket, Prefix="captions/v 1/answers/")["Contents"]:
        client.download_file(bucket, entry["Key"], str(tmp_path / entry["Key"].rpartition("/")[2]))
    assert len(duckdb.read_parquet(f"{tmp_path}/*.parquet").fetchall()) == 2


def test_a_live_holder_keeps_its_output(s3_server, uri, monkeypatch):
    # Of several renewals one comes in time, however busy the machine.
    monkeypatch.setattr(s3_lease, "TERM_SECONDS", 4.0)
    with open_log(uri, s3_server.storage) as log:
        for wait in (False, True):
            with pytest.raises(OutputInUseError, match="in use by run run-1"):
                open_log(uri, s3_server.storage, "run-2", wait=wait)
        log.append(outcomes(["a"]))
    with open_log(uri, s3_server.storage, "run-2", wait=False):  # it was given back
        pass
    assert answered(uri, s3_server.storage) == ["a"]


def test_a_challenger_gets_what_is_given_back_in_time(s3_server, uri, monkeypatch):
    monkeypatch.setattr(s3_lease, "TERM_SECONDS", 8.0)
    log = open_log(uri, s3_server.storage)
    timer = threading.Timer(1.0, log.close)
    timer.start()
    with open_log(uri, s3_server.storage, "run-2"):
        timer.join()


def stop(log, monkeypatch):
    """What SIGSTOP does to the renewing thread."""
    log._lease._ended.set()
    log._lease._thread.join()


def test_a_stopped_writer_is_succeeded_and_fenced(s3_server, uri, monkeypatch):
    stale = open_log(uri, s3_server.storage)
    stale.append(outcomes(["a"]))
    stale.flush()
    stale.append(outcomes(["b"]))
    stop(stale, monkeypatch)
    with open_log(uri, s3_server.storage, "run-2") as log:
        assert log.answered_ids().to_pylist() == ["a"]
        with pytest.raises(OutputInUseError, match="another run has taken over"):
            stale.flush()
        log.append(outcomes(["b"]))
        stale.close()
        assert not log._lease.lost
    assert answered(uri, s3_server.storage) == ["a", "b"]


def test_a_woken_writer_learns_that_its_lease_is_gone(s3_server, uri, monkeypatch):
    stale = open_log(uri, s3_server.storage)
    stop(stale, monkeypatch)
    with open_log(uri, s3_server.storage, "run-2"):
        stale._lease._ended.clear()
        stale._lease._renew_until_ended()
        assert stale._lease.lost
        with pytest.raises(OutputInUseError):
            stale.maybe_flush()  # nothing waits
        with pytest.raises(OutputInUseError):
            stale.append(outcomes(["a"]))
    stale.close()
    assert answered(uri, s3_server.storage) == []


def test_of_many_openers_at_once_one_wins(s3_server, uri, monkeypatch):
    # A holder that the machine stops for a term is taken for dead, as it should be.
    monkeypatch.setattr(s3_lease, "TERM_SECONDS", 8.0)
    logs, refused = [], []

    def try_to_open(number):
        try:
            logs.append(open_log(uri, s3_server.storage, f"run-{number}"))
        except OutputInUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=try_to_open, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(logs), len(refused)) == (1, 5)
    logs[0].close()


def test_without_a_lease_the_last_opener_wins(s3_server, uri, monkeypatch):
    """The fence alone keeps every row single, whatever becomes of the lease."""
    monkeypatch.setattr(s3_lease.S3Lease, "take", classmethod(lambda cls, *_: FakeLease()))
    logs, rows_of_each = [], [f"{n}" for n in range(4)]
    threads = [
        threading.Thread(
            target=lambda n=n: logs.append(open_log(uri, s3_server.storage, f"run-{n}"))
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    num_through = 0
    for log in logs:
        log.append(outcomes(rows_of_each))
        try:
            log.flush()
            num_through += 1
        except OutputInUseError:
            pass
    assert num_through <= 1
    assert answered(uri, s3_server.storage) == rows_of_each * num_through


class FakeLease:
    lost = False
    num_rows_before = 0

    def note(self, num_rows):
        pass

    def release(self):
        pass


def test_the_lease_is_renewed(s3_server, uri):
    with open_log(uri, s3_server.storage) as log:
        before = log._lease._state.counter
        wait_until(lambda: log._lease._state.counter > before, "a renewal")


def test_what_was_lost_with_a_writer_is_counted(s3_server, uri, monkeypatch):
    stale = open_log(uri, s3_server.storage)
    stale.append(outcomes(["a"]))
    stale.flush()
    stale.append(outcomes(["b"], ["c"]))
    wait_until(lambda: stale._lease._state.num_rows == 3, "a renewal with three rows")
    stop(stale, monkeypatch)
    with open_log(uri, s3_server.storage, "run-2") as log:
        assert log.num_lost_before == 2
        log.append(outcomes(["b"], ["c"]))
    with open_log(uri, s3_server.storage, "run-3") as log:
        assert log.num_lost_before == 0


def test_what_refuses_is_one_sentence(s3_server, uri, monkeypatch):
    monkeypatch.setattr("sfray.storage.s3_folder.FIRST_PATIENCE_SECONDS", 0.5)
    with pytest.raises(StorageError, match=r"can't be opened: .*bucket does not exist"):
        open_log("s3://no-such-bucket-anywhere/x", s3_server.storage)
    with pytest.raises(StorageError, match="can't be opened: Could not connect"):
        open_log(uri, StorageSpec(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StorageError, match=r"can't be opened: .*profile.*nobody"):
        open_log(uri, s3_server.storage.model_copy(update={"profile": "nobody"}))
    with pytest.raises(StorageError, match="AccessDenied"):
        open_log(uri, s3_server.storage.model_copy(update={"anonymous": True}))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as caught:
        open_log(uri, s3_server.storage)
    assert "wr0ng" not in str(caught.value)


def test_whether_an_output_may_be_written_is_told_without_writing(s3_server, uri, monkeypatch):
    open_folder(uri, s3_server.storage).check_writable()
    bucket = uri.split("/")[2]
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=bucket)
    folder = open_folder(uri, s3_server.storage)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StorageError, match="can't be opened"):
        open_folder(uri, s3_server.storage)
    refused = Stubber(folder._client)
    refused.add_client_error("put_object", "AccessDenied", http_status_code=403)
    with refused, pytest.raises(StorageError, match=r"can't be written: .*AccessDenied"):
        folder.check_writable()
