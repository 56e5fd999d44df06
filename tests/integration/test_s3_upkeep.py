"""Verify, compact and a writer that is stopped and woken, against a real server."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from sfray.columns import table_schema
from sfray.errors import StorageError
from sfray.results.compact import compact
from sfray.results.read import current_state
from sfray.results.verify import verify
from sfray.storage.s3_terms import S3Terms
from tests.integration.test_s3_results_log import answered, open_log
from tests.unit.results.outcomes import PASSTHROUGH, outcomes

TERMS = S3Terms(lease_seconds=2.0)


@pytest.fixture
def bucket(s3_server):
    return s3_server.new_bucket()


def run(uri, storage, run_id, asked, answers, failures):
    with open_log(uri, storage, run_id, terms=TERMS) as log:
        requests = outcomes(asked).select(table_schema("requests", PASSTHROUGH).names)
        log.write_run_file(run_id, "requests.parquet", requests)
        log.append(outcomes(answers, failures, run_id=run_id))


def test_an_output_is_proven_copied_and_found_damaged(s3_server, bucket):
    uri, copy, storage = f"s3://{bucket}/out", f"s3://{bucket}/copy", s3_server.storage
    run(uri, storage, "run-1", ["a", "b", "c"], ["a"], ["b", "c"])
    run(uri, storage, "run-2", ["b", "c"], ["b"], ["c"])
    assert verify(uri, storage).problems == ()
    assert compact(uri, copy, storage).proof.ok
    key = [("request_id", "ascending")]
    assert current_state(copy, storage).sort_by(key) == current_state(uri, storage).sort_by(key)

    client, name = s3_server.client(), "out/answers/part-00000001.parquet"
    part = client.get_object(Bucket=bucket, Key=name)
    body = part["Body"].read()
    damaged = body[:40] + b"\0" + body[41:]
    client.put_object(Bucket=bucket, Key=name, Body=damaged, Metadata=part["Metadata"])
    told = [p for p in verify(uri, storage).problems if "part-00000001" in p]
    assert any("is damaged: its digest is not that of its content" in p for p in told)
    client.delete_object(Bucket=bucket, Key=name)
    told = verify(uri, storage).problems
    assert "answers/part-00000001.parquet is missing" in told
    with pytest.raises(StorageError, match="holds no results"):
        verify(f"s3://{bucket}/elsewhere", storage)


def test_a_process_that_is_stopped_and_woken_ends(s3_server, bucket):
    """SIGSTOP past the lease, another run meanwhile, SIGCONT."""
    uri = f"s3://{bucket}/out"
    script = f"""
        import sys
        from sfray.config import StorageSpec
        from sfray.errors import OutputInUseError
        from tests.integration.test_s3_results_log import open_log, outcomes
        from tests.integration.test_s3_upkeep import TERMS
        storage = StorageSpec.model_validate_json({s3_server.storage.model_dump_json()!r})
        log = open_log({uri!r}, storage, terms=TERMS)
        log.append(outcomes(["a"]))
        log.flush()
        print("flushed", flush=True)
        sys.stdin.readline()
        log.append(outcomes(["b"]))
        try:
            log.flush()
        except OutputInUseError as error:
            print(error, flush=True)
        log.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stale:
        assert stale.stdout.readline() == "flushed\n"
        os.kill(stale.pid, signal.SIGSTOP)
        with open_log(uri, s3_server.storage, "run-2", terms=TERMS) as log:
            assert log.answered_ids().to_pylist() == ["a"]
            os.kill(stale.pid, signal.SIGCONT)
            told, _ = stale.communicate("go on\n", timeout=60)
            log.append(outcomes(["b"]))
    assert "another run has taken over" in told
    assert stale.returncode == 0
    assert answered(uri, s3_server.storage) == ["a", "b"]
