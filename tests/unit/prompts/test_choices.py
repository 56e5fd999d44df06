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
        ("**B**", "B"),
        ("[b]", "B"),
        ("\\boxed{B}", "B"),
        ("'B'", "B"),
        ("B - dark blue", "B"),
        ("(\uff22)", "B"),
        ("I would choose B", "B"),
        ("It's D.", "D"),
        ("B is the correct answer.", "B"),
        ("The answer is B because A is wrong", "B"),
        ("B\n\nA is wrong.", "B"),
        ("Answer: B, a dark blue car", "B"),
        ("the answer is a dark blue car", "B"),
        ("It is blue, not red.", "D"),
    ],
)
def test_an_answer_names_an_option(text: str, letter: str) -> None:
    assert parse_choice(text, OPTIONS) == letter


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "green", "E", "(E)", "I don't know.", "the answer is a dog", "not red"),
        *(
            "(A) or (B)",
            "A or B",
            "A, B",
            "A/B",
            "A and C",
            "Both A and B",
            "Option A and option B",
        ),
        *("The answer is A or B", "Answer: A, B and D", "A. red\nB. dark blue", "red or blue"),
        *("The answer is not A", "Not B"),
    ],
)
def test_an_answer_that_names_none_or_several_is_none(text: str) -> None:
    assert parse_choice(text, OPTIONS) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("C is cleaning dishes.", "B"),
        ("Answer: C is cooking.", "A"),
        ("C is doing something else", None),
        ("C", "C"),
        ("C) C is asleep.", "C"),
    ],
)
def test_a_word_of_an_option_that_looks_like_a_letter_is_none(
    text: str, letter: str | None
) -> None:
    options = ("C is cooking.", "C is cleaning dishes.", "C is asleep.")
    assert parse_choice(text, options) == letter


@pytest.mark.parametrize(
    ("options", "text", "letter"),
    [
        (("red", "blue", "red"), "red", "A"),
        (("red", "blue", "red"), "it is red", "A"),
        (("red", "blue", "red"), "C", "C"),
        (("+1", "-1"), "-1", "B"),
        (("+1", "-1"), "1", None),
        (("moving", "not moving"), "It is not moving", "B"),
        (("run", "run away"), "They run away", "B"),
        (("run", "run away"), "run", "A"),
    ],
)
def test_options_that_repeat_or_hold_each_other(
    options: tuple[str, ...], text: str, letter: str | None
) -> None:
    assert parse_choice(text, options) == letter
