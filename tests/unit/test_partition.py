import pytest

from sfray.partition import Partition


@pytest.mark.parametrize("text", ["", "3", "3/", "16/16", "17/16", "0/0", "-1/4", "1/4/2", "a/b"])
def test_what_is_no_partition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="0 <= i < n"):
        Partition.parse(text)


def test_a_partition_is_written_as_it_is_read() -> None:
    assert str(Partition.parse("3/16")) == "3/16"
    assert Partition.parse("3/16").folder == "partition-00003-of-00016"


def test_every_video_belongs_to_one_partition_and_each_has_its_share() -> None:
    videos = [f"clips/{n}.mp4" for n in range(4000)]
    partitions = [Partition(index=i, num_partitions=4) for i in range(4)]
    shares = [{v for v in videos if partition.holds(v)} for partition in partitions]
    assert set.union(*shares) == set(videos)
    assert sum(map(len, shares)) == len(videos)
    assert all(900 < len(share) < 1100 for share in shares)


@pytest.mark.parametrize(("video", "index"), [("a.mp4", 0), ("s3://b/\u00fc.mp4", 10), ("", 4)])
def test_a_video_stays_where_it_is_for_ever(video: str, index: int) -> None:
    assert Partition(index=index, num_partitions=16).holds(video)
