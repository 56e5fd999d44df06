import pytest

from sfray.prompts.choices import option_lines, parse_choice

OPTIONS = ("red", "dark blue", "It moves left.", "blue")


def test_options_have_letters() -> None:
    assert option_lines(OPTIONS) == "(A) red\n(B) dark blue\n(C) It moves left.\n(D) blue"
    assert option_lines(()) == ""


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        ("b", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("B) dark blue", "B"),
        (" C. It moves left.", "C"),
        ("C: something else", "C"),
        ("The answer is (D).", "D"),
        ("the answer is B", "B"),
        ("Answer: A", "A"),
        ("red", "A"),
        ("It moves left", "C"),
        ("it moves LEFT.", "C"),
        ("dark blue", "B"),
        ("The object is red.", "A"),
        ("A red thing", "A"),
        ("It is dark blue.", "B"),
    ],
)
def test_an_answer_names_an_option(text: str, letter: str) -> None:
    assert parse_choice(text, OPTIONS) == letter


@pytest.mark.parametrize(
    "text", ["", "   ", "green", "(A) or (B)", "red or blue", "E", "(E)", "I don't know."]
)
def test_an_answer_that_names_none_or_several_is_none(text: str) -> None:
    assert parse_choice(text, OPTIONS) is None
