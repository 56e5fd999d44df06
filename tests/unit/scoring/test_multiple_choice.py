import pytest

from sfray.scoring.multiple_choice import is_right


@pytest.mark.parametrize(
    ("choice", "reference", "right"),
    [
        ("B", "B", True),
        ("B", "b", True),
        ("B", "blue", True),
        ("A", "B", False),
        (None, "B", False),
        ("Z", "B", False),
        ("C", "A", True),  # reads the same as A
        ("B", "pink", False),
    ],
)
def test_a_choice_is_right_if_it_reads_as_the_reference(choice, reference, right):
    assert is_right(choice, reference, ["red", "blue", "red"]) is right
