"""Frames of videos, decoded on access, by their number.

A file's time stamps give the numbers of its frames only if they are in display order. Some writers
of AVI get that wrong for frames that are predicted from later ones. Such a video is decoded from
its start, which is slow for random access but always right.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from advaug.datasets.readers.matlab import explain_missing
from advaug.errors import DatasetError

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["FrameReader", "VideoIndex", "count_frames", "index_video"]


# Decoders inherited through a fork. Their threads stayed behind, so freeing one would wait for them
# forever; they are kept until the process ends.
_INHERITED: list[Any] = []


@dataclass(frozen=True)
class VideoIndex:
    """What a video says about itself without being decoded.

    Attributes:
        path: The file.
        size: (width, height) of its frames.
        num_frames: How many packets of pictures it holds.
        times: Time stamp of each frame in display order; empty if the stamps do not give it.
        keys: Numbers of the frames that decoding can start at; empty in the same case.
    """

    path: Path
    size: tuple[int, int]
    num_frames: int
    times: tuple[int, ...]
    keys: tuple[int, ...]


def index_video(path: Path) -> VideoIndex:
    """Read a video's packets without decoding any.

    Raises:
        DatasetError: If the file is missing or is not a video.
        ImportError: If PyAV is not installed.
    """
    with _naming(path), _opened(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size > 0]
        stamps = [packet.pts for packet in packets if packet.pts is not None]
        keys = {packet.pts for packet in packets if packet.is_keyframe}
        context = stream.codec_context
        size, reorders = (context.width, context.height), bool(context.has_b_frames)
    times = sorted(set(stamps))
    # If frames are reordered, stamps in packet order cannot be those of display.
    if len(times) < len(packets) or (times == stamps) == reorders:
        return VideoIndex(path, size, len(packets), (), ())
    numbers = (number for number, time in enumerate(times) if time in keys)
    return VideoIndex(path, size, len(packets), tuple(times), tuple(numbers))


def count_frames(path: Path) -> int:
    """Count the frames that decoding a whole video gives, one in memory at a time.

    Raises:
        DatasetError: If a part of the file cannot be decoded.
    """
    with _naming(path), _opened(path) as container:
        return sum(1 for _ in container.decode(video=0))


class FrameReader:
    """Return frames by video and number: later ones by going on, others by seeking a key frame.

    It holds one video open and no frame. Processes that share it after a fork each open their own,
    and a pickle drops the open file. It is not thread-safe.

    Attributes:
        next_frame: Number of the frame that is decoded next without seeking.
    """

    def __init__(self) -> None:
        self._index: VideoIndex | None = None
        self._process = 0
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self.next_frame = 0

    def __reduce__(self) -> tuple[type["FrameReader"], tuple[()]]:
        """Pickle as a new one."""
        return FrameReader, ()

    def read(self, index: VideoIndex, number: int) -> Image.Image:
        """Decode a frame, RGB.

        Args:
            index: Of the video.
            number: Number of the frame, from 0, in display order.

        Raises:
            DatasetError: If the video has no such frame, or is gone or has changed.
        """
        try:
            with _naming(index.path):
                return self._reach(index, number).to_image()
        except BaseException:
            self.close()  # the decoder's position is no longer known
            raise

    def close(self) -> None:
        """Close the video that is open; the next `read` opens one."""
        if self._container is not None and self._process == os.getpid():
            self._container.close()
        elif self._container is not None:
            _INHERITED.append((self._container, self._frames))
        self._index = self._container = None
        self._frames = iter(())

    def _reach(self, index: VideoIndex, number: int) -> Any:  # noqa: ANN401 # av.VideoFrame
        """Go to a frame in the shortest way.

        Raises:
            DatasetError: If the video ends before it.
        """
        goes_on = (
            self._index == index and self._process == os.getpid() and self.next_frame <= number
        )
        key = _key_before(index, number)
        if key > (self.next_frame if goes_on else 0):
            frame = self._jump(index, number, index.times[key])
            if frame is not None:
                return frame
            goes_on = False
        if not goes_on:
            self._open(index)
        for frame in self._frames:
            self.next_frame += 1
            if self.next_frame > number:
                return frame
        message = (
            f"`{index.path}` must have frame {number + 1}, but got only {self.next_frame} frames. "
            "Copy or download it again."
        )
        raise DatasetError(message)

    def _jump(self, index: VideoIndex, number: int, time: int) -> Any:  # noqa: ANN401 # av.VideoFrame or None
        """Decode from the key frame at a time stamp; None if the file does not lead there."""
        self._open(index)
        self._container.seek(time, stream=self._container.streams.video[0])
        self._frames = self._container.decode(video=0)
        started = False
        for frame in self._frames:
            # What comes before the first key frame is predicted from what was not decoded.
            started = started or bool(frame.key_frame)
            at = _number_at(index, frame.pts)
            if started and (at is None or at > number):
                return None
            if started and at == number:
                self.next_frame = number + 1
                return frame
        return None

    def _open(self, index: VideoIndex) -> None:
        self.close()
        self._container = _opened(index.path)
        self._frames = self._container.decode(video=0)
        self._index, self._process, self.next_frame = index, os.getpid(), 0


def _key_before(index: VideoIndex, number: int) -> int:
    """Number of the last key frame up to a frame; 0, the start, if the stamps do not give it."""
    return index.keys[max(bisect_right(index.keys, number) - 1, 0)] if index.keys else 0


def _number_at(index: VideoIndex, time: int | None) -> int | None:
    """Number of the frame with a time stamp."""
    at = 0 if time is None else bisect_left(index.times, time)
    return at if at < len(index.times) and index.times[at] == time else None


def _opened(path: Path) -> "InputContainer":
    import av

    return av.open(str(path))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a video into a `DatasetError` that names the file.

    Raises:
        ImportError: If PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        explain_missing("av", path, error)
    try:
        yield
    except (av.FFmpegError, OSError, IndexError) as error:
        message = (
            f"`{path}` must be a whole video, but got {type(error).__name__}: {error}. "
            "Copy or download it again."
        )
        raise DatasetError(message) from error
