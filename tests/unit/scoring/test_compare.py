import pytest

from sfray.errors import SpecError
from sfray.scoring.compare import compare
from sfray.scoring.report_formats import comparison_markdown
from tests.unit.scoring.rows import choice_row


def test_runs_are_compared_on_the_questions_they_share():
    a = [choice_row(n, "B") for n in range(40)] + [choice_row(90, "A")]
    b = [choice_row(n, "A", fingerprint="g") for n in range(40)] + [choice_row(91, "A")]
    b[-1]["fingerprint"] = "g"
    (found,) = compare(a, [], b, [])
    assert (found.value_a, found.value_b, found.difference) == (0.0, 100.0, 100.0)
    assert (found.num_shared, found.num_only_a, found.num_only_b) == (40, 1, 1)
    assert (found.num_better, found.num_worse, found.p_value) == (40, 0, 0.0)
    assert "+100.00" in comparison_markdown([found])


def test_the_same_answers_do_not_differ():
    rows = [choice_row(n, "AB"[n % 2]) for n in range(10)]
    (found,) = compare(rows, [], rows, [])
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_failure_in_one_run_counts_there_as_wrong():
    a = [choice_row(n, "A") for n in range(4)]
    b = [choice_row(n, "A", code="not_found" if n == 3 else None) for n in range(4)]
    (found,) = compare(a, [], b, [])
    assert found.difference == -25.0


def test_outputs_that_cannot_be_compared_are_refused():
    with pytest.raises(SpecError, match="share no question"):
        compare([choice_row(0, "A")], [], [choice_row(1, "A")], [])
    with pytest.raises(SpecError, match="output B holds answers of 2 configurations"):
        b = [choice_row(0, "A"), choice_row(0, "A", fingerprint="g")]
        compare([choice_row(0, "A")], [], b, [])
