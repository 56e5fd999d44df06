import pytest

from sfray.errors import SpecError
from sfray.scoring.submission import submission_csv
from tests.unit.scoring.rows import choice_row, row


def test_choices_become_numbers_and_what_is_open_is_marked():
    rows = [
        choice_row(1, "C", benchmark="egoschema", reference=None),
        choice_row(0, "A", benchmark="egoschema", code="not_found"),
    ]
    assert submission_csv(rows) == ("q_uid,answer\nq0,-1\nq1,2\n", 1)


def test_other_outputs_are_refused():
    with pytest.raises(SpecError, match="egoschema"):
        submission_csv([row(0)])
