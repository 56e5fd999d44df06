import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from typer.testing import CliRunner

from sfray.cli.evaluation import app
from sfray.commands.evaluate import judge_folder
from sfray.config import StorageSpec
from sfray.errors import OutputInUseError
from sfray.scoring.judge import JudgeError, JudgeSpec, judge
from sfray.scoring.judge_log import JudgeLog
from sfray.scoring.judge_prompts import load_prompts
from sfray.scoring.report import make_report
from sfray.storage.folders import open_folder
from tests.integration.judge_server import CUT, completion, fault, judge_server
from tests.unit.commands.outputs import outcome, write_output
from tests.unit.scoring.rows import row

YES = '{"correct": "yes", "score": 5}'
NO = '{"correct": "no", "score": 0}'


def _judge(folder, server, rows, **options):
    values = {"model": "j", "base_url": server.url, "api_key": "secret-key", "concurrency": 4}
    spec = JudgeSpec(**values | options)
    log = JudgeLog(open_folder(str(folder), StorageSpec()))
    return judge(rows, log, spec, load_prompts())


def _logged(folder):
    return JudgeLog(open_folder(str(folder), StorageSpec())).rows()


def _by_answer(_, body):
    return YES if "Candidate's answer: dog" in body["messages"][1]["content"] else NO


def test_answers_are_judged_and_what_was_asked_is_kept(tmp_path):
    rows = [row(n, text="dog" if n % 2 else "cat") for n in range(20)]
    rows += [row(20, text="  "), row(21, code="not_found"), row(22, reference_answer=None)]
    with judge_server(_by_answer) as server:
        summary = _judge(tmp_path, server, rows)
    assert (summary.num_wanted, summary.num_judged, summary.num_lost) == (20, 20, 0)
    assert len(server.requests) == 20
    assert {body["temperature"] for body in server.requests} == {0}
    logged = _logged(tmp_path)
    assert {r["request_id"] for r in logged} == {f"r{n}" for n in range(20)}
    assert {r["judge_model"] for r in logged} == {"j"}
    assert {r["prompt_fingerprint"] for r in logged} == {load_prompts().fingerprint}
    assert {r["raw_reply"] for r in logged} == {YES, NO}
    assert (summary.num_prompt_tokens, summary.num_completion_tokens) == (200, 100)
    assert summary.cost(1e6, 2e6) == 200 + 200
    (section,) = make_report("out", rows, logged)
    accuracy = next(line for line in section.lines if line.metric == "judge_accuracy")
    assert accuracy.value == pytest.approx(100 * 10 / 22)
    assert accuracy.num_open == 0


def test_nothing_is_judged_twice_and_new_answers_are(tmp_path):
    with judge_server(_by_answer) as server:
        _judge(tmp_path, server, [row(n) for n in range(5)])
        summary = _judge(tmp_path, server, [row(n) for n in range(8)])
    assert (summary.num_known, summary.num_judged) == (5, 3)
    assert len(server.requests) == 8
    assert max(Counter(r["request_id"] for r in _logged(tmp_path)).values()) == 1


def test_another_judge_judges_anew(tmp_path):
    with judge_server(_by_answer) as server:
        _judge(tmp_path, server, [row(0)])
        _judge(tmp_path, server, [row(0)], model="k")
    assert [r["judge_model"] for r in _logged(tmp_path)] == ["j", "k"]


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: fault(429),
        lambda: fault(500),
        lambda: fault(503),
        lambda: CUT,
        lambda: web.Response(text="{half of", content_type="application/json"),
        lambda: web.Response(text="<html>busy</html>", content_type="text/html"),
        lambda: web.json_response({"choices": []}),
    ],
    ids=["429", "500", "503", "cut", "malformed", "html", "empty"],
)
def test_passing_faults_are_ridden_out(tmp_path, trouble):
    rows = [row(n) for n in range(12)]
    seen = []

    def script(_, body):
        """Every third question fails on its first try; by number, retries could fail too."""
        asked = body["messages"][1]["content"]
        if asked in seen:
            return YES
        seen.append(asked)
        return trouble() if len(seen) % 3 == 1 else YES

    with judge_server(script) as server:
        summary = _judge(tmp_path, server, rows)
    assert (summary.num_judged, summary.num_lost) == (12, 0)
    logged = _logged(tmp_path)
    assert sorted(r["request_id"] for r in logged) == sorted(r["request_id"] for r in rows)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_rate_limit_is_waited_out_as_long_as_it_says(tmp_path, form):
    times = []

    def script(number, _):
        times.append(time.monotonic())
        if number > 1:
            return YES
        # An HTTP date has whole seconds.
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        return fault(429, headers={"retry-after": "2" if form == "seconds" else until})

    with judge_server(script) as server:
        summary = _judge(tmp_path, server, [row(n) for n in range(3)], concurrency=1)
    assert (summary.num_judged, summary.num_lost) == (3, 0)
    assert times[1] - times[0] >= 1.9


def test_a_used_up_quota_is_not_waited_for(tmp_path):
    with judge_server(lambda *_: fault(429, headers={"retry-after": "86400"})) as server:
        assert _judge(tmp_path, server, [row(0)]).num_lost == 1
        assert len(server.requests) == 1


def test_one_answer_that_the_endpoint_refuses_costs_no_other(tmp_path):
    def script(_, body):
        refused = "question 3?" in body["messages"][1]["content"]
        return fault(400, "context_length_exceeded") if refused else YES

    with judge_server(script) as server:
        summary = _judge(tmp_path, server, [row(n) for n in range(20)])
        assert (summary.num_judged, summary.num_lost) == (19, 1)
        assert len(server.requests) == 20


def test_what_stays_unanswered_is_asked_again_by_the_next_call(tmp_path):
    def script(_, body):
        return fault(500) if "question 1?" in body["messages"][1]["content"] else YES

    rows = [row(n) for n in range(3)]
    with judge_server(script) as server:
        summary = _judge(tmp_path, server, rows, max_retries=1)
    assert (summary.num_judged, summary.num_lost) == (2, 1)
    (section,) = make_report("out", rows, _logged(tmp_path))
    assert section.lines[0].num_open == 1
    with judge_server(_by_answer) as server:
        summary = _judge(tmp_path, server, rows)
    assert len(server.requests) == 1
    assert (summary.num_known, summary.num_judged) == (2, 1)


def test_an_unreadable_reply_is_asked_to_be_repaired(tmp_path):
    def script(number, body):
        return "I'd say yes, 5" if number == 1 else YES

    with judge_server(script) as server:
        summary = _judge(tmp_path, server, [row(0)])
    assert summary.num_judged == 1
    second = server.requests[1]["messages"]
    assert second[2] == {"role": "assistant", "content": "I'd say yes, 5"}
    assert second[3]["content"] == load_prompts().repair
    assert _logged(tmp_path)[0]["num_replies"] == 2


def test_what_stays_unreadable_is_logged_as_such_and_counts_as_wrong(tmp_path):
    with judge_server(lambda *_: "Sorry, I can't do that.") as server:
        summary = _judge(tmp_path, server, [row(0)])
        assert (summary.num_unreadable, len(server.requests)) == (1, 3)
        assert _judge(tmp_path, server, [row(0)]).num_known == 1
        assert len(server.requests) == 3
    (logged,) = _logged(tmp_path)
    assert (logged["status"], logged["verdict"]) == ("unreadable", None)
    assert logged["raw_reply"] == "Sorry, I can't do that."
    (section,) = make_report("out", [row(0)], [logged])
    assert (section.lines[0].value, section.lines[0].num_open) == (0.0, 0)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: web.json_response(completion(None, "j", refusal="I won't.")),
        lambda: web.json_response(completion("", "j", finish_reason="content_filter")),
        lambda: fault(400, "content_filter"),
    ],
    ids=["refusal", "filtered reply", "filtered request"],
)
def test_refusals_are_told_apart(tmp_path, refusal):
    with judge_server(lambda *_: refusal()) as server:
        summary = _judge(tmp_path, server, [row(0)])
    assert summary.num_refused == 1
    assert _logged(tmp_path)[0]["status"] == "refused"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_an_endpoint_that_refuses_all_stops_the_judging(tmp_path, status):
    says = "no key secret-key here"
    with (
        judge_server(lambda *_: fault(status, says=says)) as server,
        pytest.raises(JudgeError) as raised,
    ):
        _judge(tmp_path, server, [row(n) for n in range(50)])
    assert f"status {status} (no key *** here)" in str(raised.value)
    assert "secret-key" not in str(raised.value)
    assert len(server.requests) < 10


def test_an_endpoint_that_is_down_stops_the_judging_and_keeps_what_was_judged(tmp_path):
    script = lambda number, _: YES if number <= 5 else fault(500)  # noqa: E731
    rows = [row(n) for n in range(200)]
    with judge_server(script) as server, pytest.raises(JudgeError, match="20 requests in a row"):
        _judge(tmp_path, server, rows, max_retries=0)
    assert len(_logged(tmp_path)) == 5
    with judge_server(_by_answer) as server:
        assert _judge(tmp_path, server, rows).num_known == 5
        assert len(server.requests) == 195


def test_parts_are_put_as_the_judging_goes(tmp_path):
    with judge_server(_by_answer) as server:
        _judge(tmp_path, server, [row(n) for n in range(10)], units_per_part=4)
    assert len(list((tmp_path / "verdicts").glob("*.parquet"))) == 3
    assert len(_logged(tmp_path)) == 10


def test_progress_is_told_from_what_was_known_to_the_end(tmp_path):
    rows = [row(n) for n in range(5)]
    shown = []
    with judge_server(_by_answer) as server:
        _judge(tmp_path, server, rows[:2])
        log = JudgeLog(open_folder(str(tmp_path), StorageSpec()))
        spec = JudgeSpec(model="j", base_url=server.url, api_key="secret-key", concurrency=1)
        judge(rows, log, spec, load_prompts(), lambda summary: shown.append(summary.num_done))
    assert shown == [3, 4, 5]


def test_vcgbench_answers_are_judged_by_their_aspects(tmp_path):
    values = {"benchmark": "vcgbench", "scorer": "generation"}
    rows = [
        row(0, question_type="generic", **values),
        row(1, question_type="temporal", **values),
        row(2, question_type="consistency", pair_id="p", **values),
        row(3, question_type="consistency", pair_id="p", **values),
    ]
    with judge_server(lambda *_: '{"score": 4}') as server:
        summary = _judge(tmp_path, server, rows)
    assert summary.num_judged == 5
    logged = {r["aspect"]: r for r in _logged(tmp_path)}
    assert set(logged) == {"correctness", "detail", "context", "temporal", "consistency"}
    assert logged["consistency"]["pair_request_id"] == "r3"
    (section,) = make_report("out", rows, list(logged.values()))
    assert next(line for line in section.lines if line.metric == "mean").value == 4.0


def test_the_judge_command_and_its_place_in_the_report(tmp_path, monkeypatch):
    output = str(tmp_path / "out")
    write_output(tmp_path / "out", [outcome(0, text="dog"), outcome(1, text="cat")], asked=[0, 1])
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with judge_server(_by_answer) as server:
        command = ["judge", output, "--model", "j", "--base-url", server.url]
        done = CliRunner().invoke(app, [*command, "--price-prompt", "1000000"])
        assert done.exit_code == 0, done.output
        assert "2 judged now" in done.output
        assert "20 + 10 tokens, cost 20.0000" in done.output
        again = CliRunner().invoke(app, command)
        assert "2 known before, 0 judged now" in again.output
        (summary,) = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
        assert (summary["output"], summary["num_known"], summary["cost"]) == (output, 2, 0)
        assert len(server.requests) == 2
    told = json.loads(CliRunner().invoke(app, ["report", output, "--format", "json"]).output)
    values = {line["metric"]: line["value"] for line in told[0]["lines"]}
    assert (values["judge_accuracy"], values["judge_score"]) == (50.0, 2.5)
    assert "secret-key" not in "".join(p.read_bytes().decode("latin-1") for p in _files(tmp_path))


def test_two_judges_at_a_time_on_one_output_are_refused(tmp_path):
    write_output(tmp_path, [outcome(0)], asked=[0])
    lease = judge_folder(str(tmp_path), StorageSpec()).take_lease("another", wait=False)
    command = ["judge", str(tmp_path), "--model", "j", "--base-url", "http://127.0.0.1:9/v1"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, OutputInUseError)
    lease.release()


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]
