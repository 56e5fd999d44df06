import time
from dataclasses import replace
from functools import partial

import pytest

from sfray.errors import OutputInUseError, StorageError
from sfray.results import read as read_results
from sfray.storage.objects import KeyTakenError
from sfray.storage.patience import Patience
from sfray.storage.s3_client import s3_client
from sfray.storage.s3_folder import S3Folder
from sfray.storage.s3_terms import S3Terms
from tests.integration import test_s3_results_log
from tests.integration.faulty_proxy import Fault, Once, Storm, faulty_proxy
from tests.integration.test_s3_results_log import answered
from tests.unit.results.outcomes import outcomes
from tests.waiting import wait_until

NOT_APPLIED = (Fault.ERROR_500, Fault.ERROR_503, Fault.CUT)
APPLIED = (Fault.REPLY_LOST, Fault.REPLY_500, Fault.REPLY_CUT)


# Short waits between one try and the next.
TERMS = S3Terms(
    patience=Patience(max_wait_seconds=0.2), first_patience=Patience(15.0, max_wait_seconds=0.2)
)
open_log = partial(test_s3_results_log.open_log, terms=TERMS)


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


def test_a_put_that_is_applied_after_its_time_does_no_harm(s3_server, uri, storage, proxy):
    """The client gives up and tries again; then the first try reaches the server."""
    with open_log(uri, storage, terms=replace(TERMS, read_timeout_seconds=0.5)) as log:
        proxy.choose, proxy.slow_seconds = Once(Fault.SLOW, "PUT", "/answers/"), 1.5
        log.append(outcomes(["a"]))
        log.flush()
        log.append(outcomes(["b"]))
        log.flush()
        wait_until(lambda: proxy.num_slow_applied == 1, "the first try")
    assert answered(uri, s3_server.storage) == ["a", "b"]


def test_a_lost_reply_does_not_hide_a_foreign_part(s3_server, uri, storage, proxy):
    folder = S3Folder(uri, storage, TERMS)
    proxy.choose = Once(Fault.REPLY_LOST, "PUT", "/part")
    folder.put_new("part", b"ours", "writer-1")
    folder.put_new("part", b"ours", "writer-1")
    for body, writer in [(b"ours", "writer-2"), (b"theirs", "writer-1")]:
        with pytest.raises(KeyTakenError):
            folder.put_new("part", body, writer)
    assert folder.read("part") == b"ours"


def test_replies_that_are_cut_are_read_again(s3_server, uri, storage, proxy):
    write_two_runs(uri, storage)
    proxy.choose = Once(Fault.REPLY_CUT, "GET", "/answers/part-00000002")
    state = read_results.current_state(uri, storage)
    assert state.num_rows == len(EXPECTED) + 4
    assert proxy.happened


def test_a_server_that_stays_down_ends_the_run(s3_server, uri, storage, proxy):
    log = open_log(uri, storage, terms=replace(TERMS, patience=Patience(1.0)))
    log.append(outcomes(["a"]))
    log.flush()
    log.append(outcomes(["b"]))
    proxy.choose = Storm(0, rate=1.0, faults=NOT_APPLIED)
    with pytest.raises(StorageError, match="can't be written"):
        log.flush()
    log.close()
    proxy.choose = lambda *_: None
    assert answered(uri, s3_server.storage) == ["a"]


def test_a_server_that_overwrites_is_refused(s3_server, uri):
    def drop_condition(params, **_):
        params["headers"].pop("If-None-Match", None)

    # A client of its own, which the other tests don't share.
    terms = replace(TERMS, read_timeout_seconds=59.0)
    client = s3_client(s3_server.storage, terms.read_timeout_seconds)
    client.meta.events.register("before-call.s3.PutObject", drop_condition)
    with pytest.raises(StorageError, match="ignores `If-None-Match`"):
        open_log(uri, s3_server.storage, terms=terms)


def test_a_lease_is_kept_through_a_storm(s3_server, uri, storage, proxy):
    terms = replace(TERMS, lease_seconds=4.0)
    with open_log(uri, storage, terms=terms) as log:
        proxy.choose = Storm(7, rate=0.4)
        for number in range(8):
            time.sleep(0.5)
            log.append(outcomes([f"{number}"]))
            log.flush()
        with pytest.raises(OutputInUseError, match="in use by run run-1"):
            open_log(uri, s3_server.storage, "run-2", terms=terms)
    assert len(answered(uri, s3_server.storage)) == 8
