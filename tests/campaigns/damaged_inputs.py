"""Give the readers damaged files of every kind, and count what becomes of them.

From the folder `tests`: python -m campaigns.damaged_inputs --inputs 10000 --seed 0
"""

import argparse
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from campaigns.faces import table
from PIL import Image

from advaug.datasets import CocoKeypoints, Decoding, Mpii, PtsFolder
from advaug.datasets.pictures import read_picture
from advaug.datasets.readers.faces_300w import read_boxes
from advaug.detectors.hourglass import HourglassNet
from advaug.errors import DatasetError

SECONDS = 90  # above it an input counts as a hang; a file of MATLAB is given up after 60
NAMES = ["nose", "left_eye", "right_eye"]
EXTREMES = [
    *(None, True, "", "x", "\ud800", "7", -1, 0, 10**30, 10**400, 1.5, -0.0, float("nan")),
    *(float("inf"), [], {}, [[]], ["a"], {"id": 1}, "../secret.png", "/etc/hostname", "a\0b"),
    *("\\..\\secret.png", "x" * 300, "9" * 5000, "C:\\a.png", "folder", "pipe.png"),
]


def picture(kind: str, seed: int) -> bytes:
    """A whole picture of 40 x 32 in some format."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if kind == "16-bit png":
        image, kind = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "png"
    if kind == "float tiff":
        image, kind = Image.fromarray(pixels[..., 0].astype(np.float32) / 255), "tiff"
    if kind == "progressive jpeg":
        return _saved(image, "jpeg", progressive=True)
    return _saved(image, kind)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


KINDS = ("png", "jpeg", "progressive jpeg", "tiff", "bmp", "gif", "webp", "ppm")
KINDS += ("16-bit png", "float tiff")
PTS = b"version: 1\nn_points: 3\n{\n5.5 6\n20 25.25\n30 9\n}\n"


def coco() -> dict[str, Any]:
    """A whole json of COCO."""
    person = {"category_id": 1, "bbox": [2, 2, 30, 25], "area": 300.0, "iscrowd": 0}
    person["keypoints"] = [5, 6, 2, 20, 25, 1, 30, 9, 2]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 32}],
        "categories": [{"id": 1, "name": "mouse", "keypoints": NAMES}],
        "annotations": [{"id": number, "image_id": 1, **person} for number in (1, 2)],
    }
    return json.loads(json.dumps(content))  # lists of its own, for the damage to stay in one place


def mpii() -> list[dict[str, Any]]:
    """A whole json of MPII."""
    joints = np.random.default_rng(0).uniform(2, 30, (16, 2)).tolist()
    entry = {"image": "a.png", "center": [20.0, 16.0], "scale": 0.15, "joints": joints}
    people = [{**entry, "joints_vis": [1] * 16}, {**entry, "joints_vis": [1, 0] * 8}]
    return json.loads(json.dumps(people))


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """Cut, flip, repeat, remove, insert or blank some bytes."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        start = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 2, 4, 16, 64, 512))
        way = draw.randrange(6)
        if way == 0:
            del changed[start:]
        elif way == 1 and start < len(changed):
            changed[start] ^= 1 << draw.randrange(8)
        elif way == 2:
            changed[start:start] = changed[start : start + length]
        elif way == 3:
            del changed[start : start + length]
        elif way == 4:
            changed[start:start] = draw.randbytes(length)
        else:
            part = bytes([draw.choice((0, 255))]) * len(changed[start : start + length])
            changed[start : start + length] = part
    return bytes(changed)


def damaged_tree(content: Any, draw: random.Random) -> Any:
    """Replace, remove or repeat one value somewhere in a json."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = node if isinstance(node, dict) else range(len(node))
        for key in list(keys):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    for _ in range(draw.choice((1, 1, 2))):
        holder, key = draw.choice(places)
        if isinstance(holder, list) and key >= len(holder):
            continue
        way = draw.randrange(6)
        if way == 0 and (isinstance(holder, list) or key in holder):
            del holder[key]
        elif way == 1 and isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[key] = draw.choice(EXTREMES)
    return content


def text_of(content: Any, draw: random.Random) -> bytes:
    """Json as a file, sometimes broken as a text or nested without end."""
    text = json.dumps(content).encode(draw.choice(("utf-8", "utf-8-sig", "utf-16")))
    way = draw.randrange(8)
    if way == 0:
        return damaged_bytes(text, draw)
    if way == 1:
        return b"[" * 100_000 if draw.random() < 0.5 else b'{"a":' * 100_000
    return text


class Campaign:
    """A folder with whole files beside which one is damaged at a time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.root = folder / "data"
        self.canary = folder / "canary"
        self.draw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.others: list[str] = []
        (self.root / "folder").mkdir(parents=True)
        (folder / "secret.png").write_bytes(picture("png", 9))
        self.network = folder / "network.safetensors"
        HourglassNet(3, stacks=1, depth=1, width=8).save(self.network)
        self.mat = folder / "boxes.mat"
        _write_boxes(self.mat)
        os.mkfifo(self.root / "pipe.png")

    def one(self) -> None:
        """Damage one file and read it."""
        ways = {
            self.picture: 30,
            self.pts: 20,
            self.coco: 30,
            self.mpii: 12,
            self.weights: 6,
            self.special: 1.5,
            self.boxes: 0.5,
        }
        way = self.draw.choices(list(ways), list(ways.values()))[0]
        self._count(way.__name__, way)

    def picture(self) -> None:
        """A picture of any kind, read under any options."""
        kind = self.draw.choice(KINDS)
        data = damaged_bytes(picture(kind, self.draw.randrange(50)), self.draw)
        path = self._write("picture.bin", data)
        decoding = Decoding(
            self.draw.choice((None, "stored", "exif")),
            self.draw.choice((1, 3)),
            self.draw.choice((None, None, 4095)),
        )
        read_picture(path, decoding)

    def pts(self) -> None:
        """A folder with a damaged `.pts` file, or a damaged picture beside a whole one."""
        folder = self._fresh("pts")
        on_picture = self.draw.random() < 0.4
        data = picture(self.draw.choice(("png", "jpeg")), 1)
        pts = PTS
        if on_picture:
            data = damaged_bytes(data, self.draw)
        elif self.draw.random() < 0.5:
            pts = damaged_bytes(PTS, self.draw)
        else:
            number = self.draw.choice(("1e400", "nan", "9" * 5000, "-1 -1", "0x1f", "1e308", "٣"))
            pts = PTS.replace(b"20 25.25", f"{number} {number}".encode())
        (folder / "a.jpg").write_bytes(data)
        (folder / "a.pts").write_bytes(pts)
        negative = self.draw.choice((None, "position", "occluded"))
        self._use(PtsFolder(folder, num_landmarks=3, image_size=16, negative=negative))

    def coco(self) -> None:
        """A damaged json of COCO beside whole pictures."""
        path = self._write("coco.json", text_of(damaged_tree(coco(), self.draw), self.draw))
        self._write("a.png", picture("png", 0))
        skip = self.draw.random() < 0.5
        self._use(CocoKeypoints(self.root, path, image_size=16, skip_broken=skip))

    def mpii(self) -> None:
        """A damaged json of MPII beside whole pictures."""
        (self.root / "annot").mkdir(exist_ok=True)
        text = text_of(damaged_tree(mpii(), self.draw), self.draw)
        self._write("annot/train.json", text)
        (self.root / "images").mkdir(exist_ok=True)
        self._write("images/a.png", picture("png", 0))
        self._use(Mpii(self.root, image_size=16, skip_broken=self.draw.random() < 0.5))

    def weights(self) -> None:
        """A damaged file of weights."""
        data = self.network.read_bytes()
        if self.draw.random() < 0.2:
            data = data.replace(b'\\"stacks\\"', b'\\"pretra\\"')
        path = self._write("damaged.safetensors", damaged_bytes(data, self.draw))
        HourglassNet.load(path)

    def special(self) -> None:
        """A file that runs code where it is trusted, or that never ends."""
        program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({self.canary}) (w) file\n"
        payload = pickle.dumps(_Payload(str(self.canary)))
        way = self.draw.randrange(4)
        if way == 0:
            read_picture(self._write("a.jpg", program.encode()))
        elif way == 1:
            HourglassNet.load(self._write("damaged.safetensors", payload))
        elif way == 2:
            read_picture(self.draw.choice((self.root / "pipe.png", Path("/dev/zero"))))
        else:
            read_boxes(self._write("damaged.mat", payload))

    def boxes(self) -> None:
        """A damaged file of MATLAB."""
        read_boxes(self._write("damaged.mat", damaged_bytes(self.mat.read_bytes(), self.draw)))

    def _use(self, dataset: Any) -> None:
        root = self.root.resolve()
        for index in range(len(dataset)):
            if not dataset.paths[index].resolve().is_relative_to(root):
                self.counts["files outside the root that were read"] += 1
            sample = dataset[index]
            assert torch.isfinite(sample.landmarks[sample.visible]).all()
            assert torch.isfinite(sample.image).all()

    def _write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.write_bytes(data)
        return path

    def _fresh(self, name: str) -> Path:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _count(self, name: str, read: Callable[[], None]) -> None:
        self.counts["inputs"] += 1
        promised = (ValueError, FileNotFoundError) if name == "weights" else DatasetError
        signal.alarm(SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
            self.counts[f"{name}: read"] += 1
        except _Hang:
            self.counts["hangs"] += 1
            self.others.append(f"{name}: no end after {SECONDS} s")
        except Exception as error:
            expected = isinstance(error, ValueError if name == "special" else promised)
            self.counts[f"{name}: refused as promised" if expected else "other exceptions"] += 1
            if not expected:
                self.others.append(f"{name}: {type(error).__name__}: {error}"[:300])
        finally:
            signal.alarm(0)
        if self.canary.exists():
            self.counts["code that was run"] += 1
            self.canary.unlink()


class _Hang(BaseException):
    """An input that took too long."""


class _Payload:
    """What writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def _write_boxes(path: Path) -> None:
    from scipy.io import savemat

    cells = np.empty((1, 2), dtype=object)
    for index in range(2):
        cells[0, index] = {"imgName": f"{index}.jpg", "bb_detector": np.array([[1.0, 2, 30, 40]])}
    savemat(path, {"bounding_boxes": cells}, do_compression=True)


def campaign(inputs: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Read `inputs` damaged files; the counts of what must not happen are always there.

    Returns:
        The counts, and a line for each exception of another kind.
    """

    def interrupt(*_: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, interrupt)
    with tempfile.TemporaryDirectory() as folder:
        run = Campaign(Path(folder), seed)
        for name in MUST_NOT:
            run.counts[name] = 0
        try:
            for _ in range(inputs):
                run.one()
        finally:
            signal.signal(signal.SIGALRM, before)
    return run.counts, run.others


MUST_NOT = (
    "code that was run",
    "files outside the root that were read",
    "hangs",
    "other exceptions",
)


def main() -> None:
    """Run at full size and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts, others = campaign(arguments.inputs, arguments.seed)
    print(table("damaged inputs", counts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"  peak memory of the process, MiB: {peak}", *others, sep="\n")


if __name__ == "__main__":
    main()
