import numpy as np
import pytest

from sfray.demo.preset import NUM_FRAMES as NUM_SAMPLED_FRAMES
from sfray.demo.preset import POOLING
from sfray.demo.world import (
    ACTIONS,
    COLOURS,
    FLASH_FRAMES,
    NUM_FRAMES,
    SHAPES,
    SIZE,
    Scene,
    SceneObject,
    make_scene,
    render,
)
from sfray.video.sampling import sample_frame_indices


def scene_of(*objects: SceneObject, flash_frames: tuple[int, ...] = ()) -> Scene:
    return Scene(seed=1, objects=objects, flash_frames=flash_frames)


def thing(action: str, shape: str = "square", colour: str = "red") -> SceneObject:
    return SceneObject(
        colour=colour, shape=shape, action=action, x=0.5, y=0.5, radius=0.18, change_frame=8
    )


def red_pixels(frame_HWC: np.ndarray) -> np.ndarray:
    """(num_pixels, 2): y and x."""
    return np.argwhere((frame_HWC[..., 0] > 180) & (frame_HWC[..., 2] < 90))


def test_a_seed_always_gives_the_same_video() -> None:
    assert make_scene(7) == make_scene(7)
    assert np.array_equal(render(make_scene(7)), render(make_scene(7)))
    assert make_scene(7) != make_scene(8)


def test_frames_are_rgb_bytes() -> None:
    frames = render(make_scene(0))
    assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert frames.dtype == np.uint8


def test_scenes_use_all_of_the_world() -> None:
    scenes = [make_scene(seed) for seed in range(400)]
    things = [one for scene in scenes for one in scene.objects]
    assert {one.colour for one in things} == set(COLOURS)
    assert {one.shape for one in things} == set(SHAPES)
    assert {one.action for one in things} == set(ACTIONS)
    assert {len(scene.objects) for scene in scenes} == {1, 2}
    assert {len(scene.flash_frames) for scene in scenes} == {0, 1, 2, 3}


def test_two_objects_differ_in_colour_and_in_shape() -> None:
    pairs = [scene.objects for scene in map(make_scene, range(200)) if len(scene.objects) == 2]
    assert all(a.colour != b.colour and a.shape != b.shape for a, b in pairs)


def test_captions_say_every_object_and_what_it_does() -> None:
    assert scene_of(thing("moves left", colour="orange")).caption == "An orange square moves left."
    both = scene_of(thing("grows"), thing("rests", shape="cross", colour="blue"))
    assert both.caption == "A red square grows and a blue cross rests."


@pytest.mark.parametrize(
    ("action", "axis", "sign"),
    [("moves left", 1, -1), ("moves right", 1, 1), ("moves up", 0, -1), ("moves down", 0, 1)],
)
def test_moves_go_where_they_say(action: str, axis: int, sign: int) -> None:
    frames = render(scene_of(thing(action)))
    shift = red_pixels(frames[-1]).mean(0) - red_pixels(frames[0]).mean(0)
    assert sign * shift[axis] > 0.4 * SIZE
    assert abs(shift[1 - axis]) < 2


def test_sizes_and_presence_change_as_said() -> None:
    def first_and_last(action: str) -> tuple[int, int]:
        frames = render(scene_of(thing(action)))
        return len(red_pixels(frames[0])), len(red_pixels(frames[-1]))

    small, large = first_and_last("grows")
    assert large > 3 * small > 0
    large, small = first_and_last("shrinks")
    assert large > 3 * small > 0
    assert first_and_last("appears")[0] == 0 < first_and_last("appears")[1]
    assert first_and_last("vanishes")[1] == 0 < first_and_last("vanishes")[0]
    before, after = first_and_last("rests")
    assert abs(before - after) < 0.02 * before


def test_objects_stay_in_the_picture() -> None:
    for seed in range(300):
        for one in make_scene(seed).objects:
            for frame in range(NUM_FRAMES):
                place = one.at(frame)
                if place is not None:
                    assert 0 < place[0] < 1
                    assert 0 < place[1] < 1


def test_a_flash_lights_the_ground_for_one_frame() -> None:
    frames = render(scene_of(thing("rests"), flash_frames=(7,)))
    corner = frames[:, :16, :16].mean((1, 2, 3))
    assert np.argwhere(corner > 150).ravel().tolist() == [7]


def test_the_fast_pathway_sees_every_flash_and_the_slow_one_none() -> None:
    sampled = sample_frame_indices(NUM_FRAMES, NUM_SAMPLED_FRAMES)
    slow = sampled[POOLING.slow_frame_indices(NUM_SAMPLED_FRAMES)]
    assert set(FLASH_FRAMES) <= set(sampled.tolist())
    assert not set(FLASH_FRAMES) & set(slow.tolist())
