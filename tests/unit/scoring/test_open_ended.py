import pytest

from sfray.scoring.open_ended import counted, exact_match, token_f1


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("A dog.", "dog", 1.0),
        ("The  DOG", "dog", 1.0),
        ("two", "2", 1.0),
        ("a dog runs", "dog", 0.0),
        ("", "dog", 0.0),
        ("the", "a", 0.0),
    ],
)
def test_exact_match(answer, reference, same):
    assert exact_match(answer, reference) == same


def test_token_f1():
    assert token_f1("a brown dog", "dog") == pytest.approx(2 / 3)
    assert token_f1("dog dog", "dog") == pytest.approx(2 / 3)
    assert token_f1("cat", "dog") == 0.0
    assert token_f1("", "dog") == 0.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", 4),
        ("He nods four times.", 4),
        ("10 times", 10),
        ("4x", 4),
        ("He nods twice.", 2),
        ("no", None),
    ],
)
def test_counted(text, number):
    assert counted(text) == number
