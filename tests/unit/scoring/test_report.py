import csv
import io
import json

import pytest

from sfray.scoring.report import make_report
from sfray.scoring.report_formats import as_csv, as_json, as_markdown
from tests.unit.scoring.rows import choice_row, row, verdict


def _only(rows, verdicts=()):
    (section,) = make_report("out", rows, list(verdicts))
    return section, {line.metric: line for line in section.lines}


def test_what_was_not_answered_counts_as_wrong():
    rows = [
        choice_row(0, "A"),
        choice_row(1, "B"),
        choice_row(2, None),
        choice_row(4, "A", code="not_found"),
        choice_row(5, "A", code="not_found"),
        choice_row(6, "A", code="decode_timeout"),
        choice_row(8, "A", code="unfinished"),
        choice_row(9, "A"),
    ]
    section, lines = _only(rows)
    assert lines["accuracy"].value == 100 * 2 / 8
    cover = section.coverage
    assert (cover.num_asked, cover.num_answered, cover.share) == (8, 4, 0.5)
    assert (cover.num_videos, cover.num_videos_missing) == (5, 1)
    assert cover.failures == {"decode_timeout": 1, "not_found": 2, "unfinished": 1}
    assert cover.num_undecided == 1


def test_questions_without_a_reference_are_shown_and_in_no_score():
    section, lines = _only([choice_row(0, "A"), choice_row(1, "B", reference=None)])
    assert lines["accuracy"].value == 100.0
    assert section.coverage.num_without_reference == 1
    section, lines = _only([choice_row(0, "A", reference=None)])
    assert not lines
    assert "no reference answers" in as_markdown([section])


def test_published_numbers_stand_beside_the_metric_they_are_of():
    _, lines = _only([choice_row(0, "A")])
    assert lines["accuracy"].published == {"SF-LLaVA-7B": 64.2, "SF-LLaVA-34B": 72.0}
    _, lines = _only([row(0)], [verdict(0, True, 5.0)])
    assert lines["judge_accuracy"].published["SF-LLaVA-7B"] == 79.1
    assert lines["exact_match"].published == {}
    assert "no judge" in lines["exact_match"].title


def test_a_judges_verdicts_and_what_it_has_not_judged():
    rows = [row(0), row(1), row(2), row(3, code="not_found"), row(4, text=" ")]
    section, lines = _only(rows, [verdict(0, True, 5.0), verdict(1, False, 1.0)])
    assert lines["judge_accuracy"].value == 100 * 1 / 5
    assert lines["judge_score"].value == pytest.approx(6 / 5)
    assert lines["judge_accuracy"].num_open == 1
    assert section.coverage.num_empty == 1


def test_two_judges_are_two_metrics():
    verdicts = [verdict(0, True, 5.0), verdict(0, False, 1.0, judge_model="other")]
    section, _ = _only([row(0)], verdicts)
    judged = [line for line in section.lines if line.metric == "judge_accuracy"]
    assert [line.value for line in judged] == [100.0, 0.0]


def test_counts_have_exact_match_over_all_and_squared_error_over_numbers():
    values = {"benchmark": "tgif-qa", "scorer": "count", "reference_answer": "4"}
    rows = [
        row(0, text="four times", **values),
        row(1, text="6", **values),
        row(2, text="many", **values),
        row(3, code="not_found", **values),
    ]
    _, lines = _only(rows)
    assert lines["count_accuracy"].value == 25.0
    assert lines["count_mse"].value == 2.0
    assert lines["count_mse"].num_scored == 2


def test_the_five_scores_of_vcgbench_and_their_mean():
    values = {"benchmark": "vcgbench", "scorer": "generation"}
    rows = [
        row(0, question_type="generic", **values),
        row(1, question_type="temporal", **values),
        row(2, question_type="consistency", pair_id="p", **values),
        row(3, question_type="consistency", pair_id="p", **values),
        row(4, question_type="consistency", pair_id="p2", **values),
        row(5, question_type="consistency", pair_id="p2", code="not_found", **values),
    ]
    verdicts = [
        verdict(0, None, 3.0, "correctness"),
        verdict(0, None, 2.0, "detail"),
        verdict(0, None, 4.0, "context"),
        verdict(1, None, 1.0, "temporal"),
        verdict(2, None, 5.0, "consistency"),
    ]
    _, lines = _only(rows, verdicts)
    assert lines["correctness"].value == 3.0
    assert lines["consistency"].value == 2.5
    assert lines["consistency"].num_scored == 2
    assert lines["mean"].value == pytest.approx((3 + 2 + 4 + 1 + 2.5) / 5)
    assert lines["mean"].published["SF-LLaVA-34B"] == 3.32
    _, lines = _only(rows, verdicts[:4])
    assert lines["mean"].num_open == 1


def test_configurations_in_one_output_are_sections_of_their_own():
    rows = [choice_row(0, "A"), choice_row(1, "B", fingerprint="g")]
    assert [s.fingerprint for s in make_report("out", rows, [])] == ["f", "g"]


def test_each_question_type_has_its_line():
    rows = [choice_row(0, "A", question_type="CW"), choice_row(1, "B", question_type="TN")]
    section, _ = _only(rows)
    assert [(line.question_type, line.value) for line in section.by_type] == [
        ("CW", 100.0),
        ("TN", 0.0),
    ]


def test_grouping_is_told_once_for_an_output():
    rows = [row(0), row(1), row(2, scorer="count", reference_answer="1"), row(3)]
    sections = make_report("out", rows, [])
    assert len(sections) == 2
    assert {s.grouping.num_fetches_saved for s in sections} == {2}
    assert as_markdown(sections).count("saved 2 fetches") == 1


def test_a_part_of_no_published_size_is_told():
    text = as_markdown(make_report("out", [choice_row(0, "A")], []))
    assert "1 questions on 1 videos are of the size of no published part" in text
    rows = [choice_row(n, "A", benchmark="egoschema", video_id=f"v{n}") for n in range(500)]
    text = as_markdown(make_report("out", rows, []))
    assert "of the size of subset with answers" in text
    assert "no published part" not in text


def test_outputs_of_one_benchmark_are_named_in_the_table():
    def section(output, fingerprint="f"):
        return make_report(output, [choice_row(0, "A", fingerprint=fingerprint)], [])

    text = as_markdown([*section("s3://me/slow/slow_00"), *section("s3://me/slow/slow_10/")])
    assert "| output | benchmark |" in text
    assert "| slow_00 | NExT-QA | accuracy, % |" in text
    assert "| slow_10 | NExT-QA | accuracy, % |" in text
    text = as_markdown([*section("a/out"), *section("b/out")])
    assert "| b/out | NExT-QA |" in text
    text = as_markdown([*section("a/out"), *section("a/out", "g")])
    assert "| out (g) | NExT-QA |" in text
    assert "| output |" not in as_markdown(section("a/out"))


def test_plain_results_without_a_benchmark_are_scored_too():
    _, lines = _only([row(0, benchmark=None, scorer=None, question_type=None)])
    assert lines["exact_match"].value == 100.0


def test_the_formats_say_the_same():
    sections = make_report("out", [choice_row(0, "A"), choice_row(2, "B", code="not_found")], [])
    told = json.loads(as_json(sections))[0]
    assert told["coverage"]["share"] == 0.5
    assert told["lines"][0]["value"] == 50.0
    (first,) = csv.DictReader(io.StringIO(as_csv(sections)))
    assert (first["value"], first["coverage"], first["num_videos_missing"]) == (
        "50.0000",
        "0.5000",
        "1",
    )
    text = as_markdown(sections)
    assert "| NExT-QA | accuracy, % | 50.00 |" in text
    assert "1 / 2 (50.0%) | 1 of 2 | not_found 1 | SF-LLaVA-7B 64.2, SF-LLaVA-34B 72 |" in text
