from sfray.demo.questions import KINDS, Question, questions
from sfray.demo.world import Scene, SceneObject, make_scene
from sfray.prompts.choices import parse_choice


def thing(colour: str, shape: str, action: str, change_frame: int) -> SceneObject:
    return SceneObject(
        colour=colour, shape=shape, action=action, x=0.5, y=0.3, radius=0.15,
        change_frame=change_frame,
    )  # fmt: skip


def answers(asked: list[Question]) -> dict[str, str]:
    """The open answers by question."""
    return {one.question: one.answer for one in asked if not one.options}


def test_every_question_comes_open_and_with_options() -> None:
    for seed in range(50):
        asked = questions(make_scene(seed), seed=3)
        right = answers(asked)
        assert len({one.question_id for one in asked}) == len(asked) == 2 * len(right)
        for one in asked:
            if one.options:
                assert parse_choice(right[one.question], one.options) == one.answer
                assert len(set(one.options)) == len(one.options)


def test_all_kinds_are_asked_for() -> None:
    kinds = {one.kind for seed in range(100) for one in questions(make_scene(seed), seed=0)}
    assert kinds == set(KINDS)


def test_the_seed_shuffles_options_and_changes_no_question() -> None:
    scene = make_scene(5)
    assert questions(scene, seed=0) == questions(scene, seed=0)
    assert questions(scene, seed=0) != questions(scene, seed=1)
    assert answers(questions(scene, seed=0)) == answers(questions(scene, seed=1))


def test_answers_are_those_of_the_scene() -> None:
    objects = (thing("orange", "circle", "rests", 11),)
    right = answers(questions(Scene(seed=0, objects=objects, flash_frames=(3, 14)), seed=0))
    assert right == {
        "What colour is the object?": "It is orange.",
        "What shape is the object?": "It is an orange circle.",
        "What does the object do?": "It rests.",
        "How many objects are there?": "1",
        "How many times does the screen flash?": "2",
    }


def test_two_objects_are_told_by_their_place() -> None:
    objects = (thing("red", "circle", "appears", 11), thing("white", "cross", "appears", 4))
    right = answers(questions(Scene(seed=0, objects=objects, flash_frames=()), seed=0))
    assert right == {
        "What does the left object do?": "It appears.",
        "What does the right object do?": "It appears.",
        "How many objects are there?": "2",
        "How many times does the screen flash?": "0",
        "Which object appears first?": "It is the right object.",
    }


def test_order_is_asked_only_where_it_can_be_seen() -> None:
    near = (thing("red", "circle", "vanishes", 7), thing("white", "cross", "vanishes", 8))
    asked = questions(Scene(seed=0, objects=near, flash_frames=()), seed=0)
    assert "order" not in {one.kind for one in asked}
