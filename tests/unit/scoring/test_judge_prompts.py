import pytest

from sfray.errors import SpecError
from sfray.scoring.judge_prompts import Verdict, load_prompts, read_verdict
from tests.unit.scoring.rows import row


@pytest.mark.parametrize(
    "reply",
    [
        '{"correct": "yes", "score": 4}',
        '{"correct": true, "score": 4.0}',
        'Sure! ```json\n{"score": "4", "correct": "Yes"}\n```',
        "{'correct': 'yes', 'score': 4}",
        "{'correct': True, 'score': 4}",
        '{"correct": "yes", "score": 4} and again {"correct": "yes", "score": 4}',
    ],
)
def test_a_certain_verdict_is_read(reply):
    assert read_verdict(reply, "answer") == Verdict(True, 4.0)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "yes, 4",
        '{"correct": "yes"}',
        '{"correct": "maybe", "score": 4}',
        '{"correct": "yes", "score": 6}',
        '{"correct": "yes", "score": -1}',
        '{"correct": "yes", "score": true}',
        '{"correct": "yes", "score": NaN}',
        '{"correct": "yes", "score": 4',
        '{"correct": "yes", "score": 4} or {"correct": "no", "score": 1}',
        "{__import__('os').getcwd()}",
    ],
)
def test_what_is_not_certain_is_no_verdict(reply):
    assert read_verdict(reply, "answer") is None


def test_other_aspects_have_a_score_only():
    assert read_verdict('{"score": 3}', "detail") == Verdict(None, 3.0)
    assert read_verdict('{"score": 3}', "answer") is None


def test_braces_in_an_answer_are_plain_text():
    messages = load_prompts().messages("answer", [row(0, text="{reference} {x}")])
    assert "answer: {reference} {x}" in messages[1]["content"]
    assert "Reference answer: dog" in messages[1]["content"]


def test_a_pair_shows_both_questions():
    unit = [row(0, text="one"), row(1, text="two")]
    text = load_prompts().messages("consistency", unit)[1]["content"]
    assert "question 0?" in text
    assert "question 1?" in text
    assert "second: two" in text


def test_a_file_replaces_the_prompts_and_changes_their_fingerprint(tmp_path):
    file = tmp_path / "prompts.yaml"
    aspects = ("answer", "correctness", "detail", "context", "temporal", "consistency")
    file.write_text(
        "repair: again\n" + "".join(f"{a}: {{system: s, user: '{{question}}'}}\n" for a in aspects)
    )
    prompts = load_prompts(file)
    assert prompts.fingerprint != load_prompts().fingerprint
    assert prompts.messages("detail", [row(0)])[1]["content"] == "question 0?"
    file.write_text("repair: again\nanswer: {system: s}\n")
    with pytest.raises(SpecError, match="of 'answer'"):
        load_prompts(file)
    with pytest.raises(SpecError, match="can't be read"):
        load_prompts(tmp_path / "none.yaml")
