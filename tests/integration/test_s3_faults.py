import time

import pytest

from sfray.errors import OutputInUseError, StorageError
from sfray.results import read as read_results
from sfray.storage import s3_folder, s3_lease, s3_patience
from sfray.storage.s3_folder import S3Folder
from tests.integration.faulty_proxy import Fault, Once, Storm, faulty_proxy
from tests.integration.test_s3_results_log import answered, open_log
from tests.unit.results.outcomes import outcomes
from tests.waiting import wait_until

NOT_APPLIED = (Fault.ERROR_500, Fault.ERROR_503, Fault.CUT)
APPLIED = (Fault.REPLY_LOST, Fault.REPLY_500, Fault.REPLY_CUT)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Between one try and the next."""
    monkeypatch.setattr(s3_patience, "_MAX_WAIT_SECONDS", 0.2)


@pytest.fixture
def proxy(s3_server):
    with faulty_proxy(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def storage(s3_server, proxy):
    return s3_server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url})


@pytest.fixture
def uri(s3_server):
    return f"s3://{s3_server.new_bucket()}/out"


def write_two_runs(uri, storage):
    for run in range(2):
        with open_log(uri, storage, f"run-{run}") as log:
            for part in range(2):
                log.append(outcomes([f"a{run}{part}", "again"], [f"f{run}{part}"]))
                log.flush()


EXPECTED = ["a00", "a01", "a10", "a11", "again"]


@pytest.mark.parametrize("fault", [*NOT_APPLIED, *APPLIED])
@pytest.mark.parametrize(
    "place",
    [("PUT", "/answers/part-00000000"), ("PUT", "/answers/part-00000002"), ("PUT", "lease.json")],
)
def test_one_fault_at_a_put_changes_nothing(s3_server, uri, storage, proxy, fault, place):
    proxy.choose = Once(fault, *place)
    write_two_runs(uri, storage)
    assert [f for f, _, _ in proxy.happened] == [fault]
    assert answered(uri, s3_server.storage) == EXPECTED


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_changes_nothing(s3_server, uri, storage, proxy, seed):
    proxy.choose = Storm(seed, rate=0.3)
    write_two_runs(uri, storage)
    assert len(proxy.happened) > 5
    assert answered(uri, s3_server.storage) == EXPECTED
    progress = read_results.read_progress(uri, storage)
    assert sorted(progress.latest_failures["request_id"].to_pylist()) == [
        "f00",
        "f01",
        "f10",
        "f11",
    ]


def test_a_put_that_is_applied_after_its_time_does_no_harm(
    s3_server, uri, storage, proxy, monkeypatch
):
    """The client gives up and tries again; then the first try reaches the server."""
    monkeypatch.setattr(s3_folder, "READ_TIMEOUT_SECONDS", 0.5)
    with open_log(uri, storage) as log:
        proxy.choose, proxy.slow_seconds = Once(Fault.SLOW, "PUT", "/answers/"), 1.5
        log.append(outcomes(["a"]))
        log.flush()
        log.append(outcomes(["b"]))
        log.flush()
        wait_until(lambda: proxy.num_slow_applied == 1, "the first try")
    assert answered(uri, s3_server.storage) == ["a", "b"]


def test_a_lost_reply_does_not_hide_a_foreign_part(s3_server, uri, storage, proxy):
    folder = S3Folder(uri, storage)
    proxy.choose = Once(Fault.REPLY_LOST, "PUT", "/part")
    folder.put_new("part", b"ours", "writer-1")
    folder.put_new("part", b"ours", "writer-1")
    for body, writer in [(b"ours", "writer-2"), (b"theirs", "writer-1")]:
        with pytest.raises(s3_folder.KeyTakenError):
            folder.put_new("part", body, writer)
    assert folder.read("part") == b"ours"


def test_replies_that_are_cut_are_read_again(s3_server, uri, storage, proxy):
    write_two_runs(uri, storage)
    proxy.choose = Once(Fault.REPLY_CUT, "GET", "/answers/part-00000002")
    state = read_results.current_state(uri, storage)
    assert state.num_rows == len(EXPECTED) + 4
    assert proxy.happened


def test_a_server_that_stays_down_ends_the_run(s3_server, uri, storage, proxy, monkeypatch):
    monkeypatch.setattr(s3_folder, "PATIENCE_SECONDS", 1.0)
    log = open_log(uri, storage)
    log.append(outcomes(["a"]))
    log.flush()
    log.append(outcomes(["b"]))
    proxy.choose = Storm(0, rate=1.0, faults=NOT_APPLIED)
    with pytest.raises(StorageError, match="can't be written"):
        log.flush()
    log.close()
    proxy.choose = lambda *_: None
    assert answered(uri, s3_server.storage) == ["a"]


def test_a_server_that_overwrites_is_refused(s3_server, uri, monkeypatch):
    make_client = s3_folder._client

    def drop_condition(params, **_):
        params["headers"].pop("If-None-Match", None)

    def without_conditions(storage):
        client = make_client(storage)
        client.meta.events.register("before-call.s3.PutObject", drop_condition)
        return client

    monkeypatch.setattr(s3_folder, "_client", without_conditions)
    with pytest.raises(StorageError, match="ignores `If-None-Match`"):
        open_log(uri, s3_server.storage)


def test_a_lease_is_kept_through_a_storm(s3_server, uri, storage, proxy, monkeypatch):
    monkeypatch.setattr(s3_lease, "TERM_SECONDS", 4.0)
    with open_log(uri, storage) as log:
        proxy.choose = Storm(7, rate=0.4)
        for number in range(8):
            time.sleep(0.5)
            log.append(outcomes([f"{number}"]))
            log.flush()
        with pytest.raises(OutputInUseError, match="in use by run run-1"):
            open_log(uri, s3_server.storage, "run-2")
    assert len(answered(uri, s3_server.storage)) == 8
