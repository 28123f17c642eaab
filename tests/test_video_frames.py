"""Frames of a video by number: the same one whichever way they are asked for."""

import pickle
import random

import numpy as np
import pytest
from small_sets import make_video

from advaug.datasets.readers.video_frames import FrameReader, count_frames, index_video
from advaug.errors import DatasetError

av = pytest.importorskip("av")

NUM_FRAMES = 40
ENCODINGS = {
    "mpeg4 in avi, as 300VW": ("a.avi", "mpeg4", {}),
    "mpeg4 with predictions from later frames": ("b.avi", "mpeg4", {"bf": "2"}),
    "h264 in avi, whose stamps mislead": ("c.avi", "libx264", {"bf": "2", "g": "12"}),
    "h264 in mp4 with open groups": (
        "d.mp4",
        "libx264",
        {"bf": "3", "g": "12", "x264-params": "open-gop=1"},
    ),
    "every frame a key": ("e.avi", "mjpeg", {}),
}


def write_video(path, codec="mpeg4", options=None, *, size=(64, 48)):
    return make_video(path, NUM_FRAMES, codec=codec, options=options, size=size)


@pytest.fixture(params=ENCODINGS, ids=list(ENCODINGS))
def video(request, tmp_path):
    name, codec, options = ENCODINGS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    return write_video(tmp_path / name, codec, options)


def level(image):
    return float(np.asarray(image).mean())


def test_frames_in_order_are_those_that_were_written(video):
    reader, index = FrameReader(), index_video(video)
    assert (index.size, index.num_frames) == ((64, 48), NUM_FRAMES)
    levels = [level(reader.read(index, number)) for number in range(NUM_FRAMES)]
    np.testing.assert_allclose(levels, 6 * np.arange(NUM_FRAMES), atol=2.5)


def test_a_frame_has_the_same_pixels_in_any_order(video):
    index = index_video(video)
    reader = FrameReader()
    in_order = [np.asarray(reader.read(index, number)) for number in range(NUM_FRAMES)]
    numbers = list(range(NUM_FRAMES)) * 2
    random.Random(1).shuffle(numbers)
    for number in numbers:
        assert (np.asarray(reader.read(index, number)) == in_order[number]).all(), number


def test_every_tenth_frame_and_a_pickle_in_between(video):
    index, reader = index_video(video), FrameReader()
    for number in range(0, NUM_FRAMES, 10):
        assert level(reader.read(index, number)) == pytest.approx(6 * number, abs=2.5)
        reader = pickle.loads(pickle.dumps(reader))


def test_two_videos_by_turns(tmp_path):
    indices = [
        index_video(write_video(tmp_path / "a.avi")),
        index_video(write_video(tmp_path / "b.avi", size=(32, 32))),
    ]
    reader = FrameReader()
    for number in (3, 4, 20, 1):
        for index in indices:
            image = reader.read(index, number)
            assert image.size == index.size
            assert level(image) == pytest.approx(6 * number, abs=2.5)


def test_a_jump_decodes_no_more_than_from_the_key_frame(tmp_path):
    index = index_video(
        write_video(tmp_path / "a.avi", options={"g": "10", "sc_threshold": "1000000000"})
    )
    assert index.keys == (0, 10, 20, 30)
    reader = FrameReader()
    reader.read(index, 35)
    assert reader.next_frame == 36
    reader.read(index, 3)
    assert reader.next_frame == 4


def test_a_frame_beyond_the_end_is_refused_and_the_reader_goes_on(tmp_path):
    index, reader = index_video(write_video(tmp_path / "a.avi")), FrameReader()
    with pytest.raises(DatasetError, match=r"a\.avi` must have frame 41, but got only 40 frames"):
        reader.read(index, 40)
    assert level(reader.read(index, 2)) == pytest.approx(12, abs=2.5)


@pytest.mark.parametrize("read", [index_video, count_frames])
def test_what_is_no_video_is_named(tmp_path, read):
    path = tmp_path / "a.avi"
    with pytest.raises(DatasetError, match=r"a\.avi` must be a whole video"):
        read(path)
    path.write_bytes(b"no video")
    with pytest.raises(DatasetError, match=r"a\.avi` must be a whole video"):
        read(path)


def test_frames_are_counted_without_trusting_the_packets(video):
    assert count_frames(video) == NUM_FRAMES
