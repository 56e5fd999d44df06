import numpy as np

from sfray.scoring.bootstrap import VideoBootstrap, interval, two_sided_p


def test_the_interval_of_a_share_is_that_of_its_standard_error():
    values = np.array([100.0] * 300 + [0.0] * 100)
    videos = [f"v{i}" for i in range(400)]
    low, high = interval(VideoBootstrap(videos).means(values, videos))
    error = 100 * np.sqrt(0.75 * 0.25 / 400)
    assert abs(low - (75 - 1.96 * error)) < 0.6
    assert abs(high - (75 + 1.96 * error)) < 0.6


def test_questions_of_one_video_are_no_independent_evidence():
    values = np.repeat([100.0, 0.0] * 10, 20)
    together = [f"v{i // 20}" for i in range(400)]
    apart = [f"v{i}" for i in range(400)]
    widths = []
    for videos in (together, apart):
        low, high = interval(VideoBootstrap(videos).means(values, videos))
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_the_same_data_gives_the_same_interval():
    values, videos = np.arange(10.0), [f"v{i}" for i in range(10)]
    first = VideoBootstrap(videos).means(values, videos)
    assert (first == VideoBootstrap(videos).means(values, videos)).all()


def test_p_is_one_without_a_difference_and_small_with_a_clear_one():
    assert two_sided_p(np.zeros(100)) == 1.0
    assert two_sided_p(np.linspace(1, 2, 100)) == 0.0
