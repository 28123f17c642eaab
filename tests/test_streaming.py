"""Streamed pictures: those of `InMemoryLandmarks` in the same order, whoever reads them."""

import argparse
import io
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.arguments import Recipe, add_arguments, experiment_from
from lab.benchmarks import input as input_benchmark
from lab.codecs import HeatmapCodec
from lab.experiment import run
from lab.faces import read_faces
from lab.trainer import Trainer, TrainingConfig
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils.data import Subset
from toys import waiting_is_an_error

from advaug.augment import HandcraftedAugmentation
from advaug.datasets import LandmarkSample, PtsFolder, SyntheticFaces, write_pts
from advaug.datasets.crop import SquareCrop
from advaug.datasets.cut import (
    LEAST_REST,
    CutSample,
    cut_square,
    pack_cuts,
    request_reduced,
    resample_cuts,
)
from advaug.detectors import HourglassNet
from advaug.errors import DatasetError, ShapeError
from advaug.schemes import FACE_68
from advaug.training import InMemoryLandmarks, streaming
from advaug.training.loading import StepOrder
from advaug.training.streaming import StreamedLandmarks, hold_or_stream

SIDE = 32
COUNT = 7
LEVEL = 1 / 255


def smooth_picture(size, seed):
    """Coloured clouds: what a photograph is to a filter, with no edge as sharp as a pixel."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def fill(folder):
    """Pictures of several sizes and formats, faces of several sizes, some over the border."""
    folder.mkdir(exist_ok=True)
    for index in range(COUNT):
        size = (150 + 70 * index, 400 - 30 * index)
        centre = np.array([0.3 * size[0], 0.4 * size[1]])
        reach = 20 + 25 * index
        points = np.random.default_rng(index).uniform(centre - reach, centre + reach, (68, 2))
        path = folder / f"face_{index}.{'png' if index % 3 == 2 else 'jpg'}"
        smooth_picture(size, index).save(path)
        write_pts(path.with_suffix(".pts"), points)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("faces") / "root")


@pytest.fixture(scope="module")
def faces(folder):
    return PtsFolder(folder, image_size=SIDE)


@pytest.fixture(scope="module")
def held(faces):
    return InMemoryLandmarks(faces, workers=0)


def assert_same(found, expected, *, mean=LEVEL, most=12 * LEVEL):
    """The same pictures but for rounding and the filter; the very same landmarks."""
    assert torch.equal(found.landmarks, expected.landmarks)
    assert torch.equal(found.visible, expected.visible)
    difference = (found.images - expected.images).abs()
    assert difference.mean(dim=(1, 2, 3)).max() <= mean
    assert difference.max() <= most


def assert_equal(found, expected):
    for name in ("images", "landmarks", "visible"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_and_order_are_those_of_the_set_in_memory(faces, held, workers):
    streamed = StreamedLandmarks(faces, workers=workers)
    assert len(streamed) == COUNT
    for step in range(6):  # two epochs
        assert_same(streamed.batch(step, 3, seed=4), held.batch(step, 3, seed=4))
    streamed.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_step_is_the_same_whoever_reads_it_and_whatever_came_before(faces, workers):
    whole = StreamedLandmarks(faces, workers=0)
    expected = [whole.batch(step, 2, seed=1) for step in range(7)]
    resumed = StreamedLandmarks(faces, workers=workers)
    for step in (4, 5, 6, 0, 1):
        assert_equal(resumed.batch(step, 2, seed=1), expected[step])
    resumed.close()


def test_another_seed_starts_another_order(faces, held):
    streamed = StreamedLandmarks(faces, workers=0)
    streamed.batch(0, 3, seed=1)
    assert_same(streamed.batch(1, 3, seed=2), held.batch(1, 3, seed=2))


def test_processes_share_a_step_without_overlap(faces):
    together = StreamedLandmarks(faces, workers=0).batch(1, 4, seed=2)
    ranks = [StreamedLandmarks(faces, workers=1) for _ in range(2)]
    parts = [ranks[rank].batch(1, 2, seed=2, process=rank, processes=2) for rank in range(2)]
    assert torch.equal(torch.cat([part.landmarks for part in parts]), together.landmarks)
    assert len(together.landmarks[:, 0, 0].unique()) == 4


def test_a_set_smaller_than_a_batch_fills_it(faces):
    assert len(StreamedLandmarks(faces, workers=0).batch(0, 10).images) == 10


def test_subsets_and_finished_samples(faces, held):
    part = Subset(Subset(faces, [6, 5, 4, 3, 1]), [0, 2, 4])
    expected = InMemoryLandmarks(part, workers=0)
    assert_same(StreamedLandmarks(part, workers=0).batch(2, 2), expected.batch(2, 2))
    drawn = SyntheticFaces(4, image_size=SIDE)
    batch = StreamedLandmarks(drawn, workers=0).batch(0, 4, seed=1)
    assert_same(batch, InMemoryLandmarks(drawn, workers=0).batch(0, 4, seed=1), most=1e-6)


def test_the_mean_shape_is_that_of_the_set_in_memory(faces, held):
    found = StreamedLandmarks(faces, workers=0).mean_shape()
    torch.testing.assert_close(found, held.mean_shape())


def test_the_mean_shape_of_a_large_set_is_that_of_samples_all_over_it(faces, monkeypatch):
    monkeypatch.setattr(streaming, "MEAN_OF", 3)
    found = StreamedLandmarks(faces, workers=0).mean_shape()
    spread = InMemoryLandmarks(Subset(faces, [0, 2, 4]), workers=0)
    torch.testing.assert_close(found, spread.mean_shape())


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_global_random_state_alone(faces, workers):
    before = torch.get_rng_state()
    InMemoryLandmarks(faces, workers=workers)
    StreamedLandmarks(faces, workers=workers).batch(0, 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named_by_its_reader(tmp_path, workers):
    faces = PtsFolder(fill(tmp_path / "root"), image_size=SIDE)
    streamed = StreamedLandmarks(faces, workers=workers)
    path = faces.paths[5]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"face_5\.png` must be a whole picture") as caught:
        streamed.batch(0, COUNT)
    assert "Traceback" not in str(caught.value)
    smooth_picture((500, 250), 5).save(path)
    assert len(streamed.batch(0, COUNT).images) == COUNT  # it goes on once the file is repaired


def test_a_broken_file_stops_the_step_that_shows_it_and_none_before(tmp_path):
    faces = PtsFolder(fill(tmp_path / "root"), image_size=SIDE)
    steps = [StepOrder(2, COUNT).indices(step).tolist() for step in range(3)]
    faces.paths[steps[2][1]].unlink()
    streamed = StreamedLandmarks(faces, workers=1)
    for step in range(2):
        streamed.batch(step, 2)
    with pytest.raises(DatasetError, match=faces.paths[steps[2][1]].name):
        streamed.batch(2, 2)


class Deadly(PtsFolder):
    """Kills the process that reads one of its pictures, as a decoder's fault would."""

    def cut(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().cut(index)


def test_a_worker_that_dies_names_the_picture(folder):
    streamed = StreamedLandmarks(Deadly(folder, image_size=SIDE), workers=1)
    with pytest.raises(DatasetError, match=r"must live, but got.*face_3\.jpg`\. Open these"):
        streamed.batch(0, COUNT)


def test_what_cannot_be_streamed_is_refused(faces):
    with pytest.raises(ValueError, match="`workers` must not be negative, but got -1"):
        StreamedLandmarks(faces, workers=-1)
    wide = [LandmarkSample(torch.zeros(3, 8, 9), torch.zeros(1, 2), torch.ones(1) > 0)]
    with pytest.raises(ShapeError, match=r"`dataset` must give square pictures, but got \(8, 9\)"):
        StreamedLandmarks(wide)


@pytest.mark.parametrize(("memory", "kind"), [(4, InMemoryLandmarks), (3.9, StreamedLandmarks)])
def test_a_set_is_streamed_above_a_quarter_of_the_memory(faces, monkeypatch, memory, kind):
    total = memory * COUNT * 3 * SIDE**2
    monkeypatch.setattr(streaming, "_total_memory", lambda device: total)
    assert isinstance(hold_or_stream(faces, SIDE, "cpu", workers=0), kind)
    always = hold_or_stream(faces, SIDE, "cpu", stream=True, workers=0)
    assert isinstance(always, StreamedLandmarks)


def halves(picture, crop, *, opened=None):
    """A crop by both halves, as `(image_size, image_size, 3)` float in 0..255."""
    if opened is not None:
        crop = request_reduced(opened, crop)
        picture = opened.convert("RGB")
    sample = CutSample(*cut_square(picture, crop), torch.zeros(1, 2), torch.ones(1) > 0)
    cuts = pack_cuts([sample])
    return resample_cuts(cuts.canvas, cuts.geometry, crop.image_size)[0].permute(1, 2, 0) * 255


@pytest.mark.parametrize("image_size", [512, 256, 96, 40, 24])
@pytest.mark.parametrize("place", [(33.3, 20.8, 240.6), (-40.2, 77.7, 300.4)], ids=["in", "over"])
def test_both_halves_give_the_crop_of_one(place, image_size):
    picture = smooth_picture((310, 290), 0)
    crop = SquareCrop(*place, image_size)
    difference = (halves(picture, crop) - torch.from_numpy(crop.resample(picture))).abs()
    assert difference.mean() < 1
    if crop.side < 2 * LEAST_REST * image_size:  # not reduced: rounding alone
        assert difference.max() < 1.01


def test_whole_pixels_are_copied():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    found = halves(Image.fromarray(pixels), SquareCrop(7, 3, 12, 12))
    torch.testing.assert_close(found, torch.from_numpy(pixels[3:15, 7:19]).float())


def test_stripes_of_a_pixel_become_grey_and_not_moire():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    found = halves(Image.fromarray(stripes), SquareCrop(0, 0, 256, 100))
    assert (found - 127.5).abs().max() < 20


@settings(max_examples=25)
@given(
    centre=st.tuples(st.floats(250, 600), st.floats(200, 500)),
    side=st.floats(60, 500),
    off=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    image_size=st.sampled_from([24, 64, 256]),
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_blob_at_a_landmark_is_found_at_the_mapped_landmark(form, centre, side, off, image_size):
    sigma = max(0.03 * side, 1.5, 1.5 * side / image_size)
    y, x = np.mgrid[:700, :900]
    blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    picture = Image.fromarray((blob * 255).round().astype(np.uint8)).convert("RGB")
    corner = [at + 0.5 - side * (0.5 + shift) for at, shift in zip(centre, off, strict=True)]
    crop = SquareCrop(*corner, side, image_size)
    file = io.BytesIO()
    picture.save(file, form, quality=95, compress_level=0)
    with Image.open(file) as opened:
        weights = halves(picture, crop, opened=opened)[..., 0].numpy().astype(np.float64)
    weights[weights < 3] = 0  # what JPEG leaves around
    y, x = np.mgrid[:image_size, :image_size]
    centroid = np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()
    assert np.abs(centroid - crop.to_crop(centre)).max() < 0.1


def test_far_more_pixels_than_needed_are_neither_decoded_nor_sent(tmp_path):
    picture = smooth_picture((2000, 1500), 0)
    picture.save(tmp_path / "a.jpg")
    crop = SquareCrop(300.5, 200.5, 1000, 64)
    pixels, square = cut_square(picture, crop)
    assert max(pixels.shape) <= 2 * LEAST_REST * 64 + 2
    assert square[2] == pytest.approx(1000 / 10)
    with Image.open(tmp_path / "a.jpg") as opened:
        reduced = request_reduced(opened, crop)
        assert opened.size == (250, 188)
        assert reduced == SquareCrop(300.5 / 8, 200.5 / 8, 125, 64)
        assert max(cut_square(opened.convert("RGB"), reduced)[0].shape) <= 2 * LEAST_REST * 64 + 2


class NoHostLists(TorchFunctionMode):
    """Refuses tensors made on the device from Python numbers, which it would wait for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert function not in (torch.tensor, torch.as_tensor) or kwargs.get("device") is None
        return function(*args, **kwargs)


def test_nothing_after_the_workers_waits_for_the_device(faces):
    """Tensors of the device "meta" hold no values, so nothing can be read back from them."""
    cuts = pack_cuts([faces.cut(index) for index in range(3)])
    canvas, geometry, landmarks, visible = (part.to("meta") for part in cuts)
    augmentation = HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation)
    with NoHostLists():
        images = resample_cuts(canvas, geometry, SIDE)
        images, (landmarks, visible) = augmentation(images, (landmarks, visible))
        heatmaps, _ = HeatmapCodec(4).encode(landmarks, visible, (SIDE, SIDE))
    assert images.shape == (3, 3, SIDE, SIDE)
    assert heatmaps.shape == (3, 68, SIDE // 4, SIDE // 4)


def train(data, output, *, steps, resume=False):
    torch.manual_seed(0)
    trainer = Trainer(
        HourglassNet(68, width=8, depth=2, out_stride=4),
        HeatmapCodec(4),
        data,
        TrainingConfig(steps=steps, batch_size=2, decay=0.9, checkpoint_every=2, log_every=1),
        output,
        augmentation=HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation),
        accelerator=Accelerator(cpu=True),
    )
    return trainer.fit(resume=resume).state_dict(), trainer.progress.history


def test_a_stopped_run_goes_on_to_the_bit(faces, tmp_path):
    expected, history = train(StreamedLandmarks(faces, workers=0), tmp_path / "whole", steps=4)
    train(StreamedLandmarks(faces, workers=1), tmp_path / "stopped", steps=2)
    data = StreamedLandmarks(faces, workers=1)
    found, resumed = train(data, tmp_path / "stopped", steps=4, resume=True)
    data.close()
    assert resumed == history
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_pictures_on_a_gpu_without_waiting_for_it(faces):
    streamed = StreamedLandmarks(faces, "cuda", workers=1)
    expected = StreamedLandmarks(faces, workers=0)
    torch.cuda.synchronize()
    with waiting_is_an_error():
        found = [streamed.batch(step, 3) for step in range(4)]
    for step, batch in enumerate(found):
        assert batch.images.device.type == "cuda"
        torch.testing.assert_close(batch.images.cpu(), expected.batch(step, 3).images)
        assert torch.equal(batch.landmarks.cpu(), expected.batch(step, 3).landmarks)
    streamed.close()


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    small = Recipe(steps=2, batch_size=2, image_size=SIDE, learning_rate=1e-3)
    return experiment_from(parser.parse_args(words), small)


def test_the_examples_stream_when_told_to(folder, tmp_path):
    words = ("--data", "pts", "--root", str(folder), "--output", str(tmp_path / "run"), "--no-saat")

    def make_detector(_):
        return HourglassNet(68, width=8, depth=2, out_stride=4)

    run(parsed(*words, "--stream", "--workers", "0"), make_detector, HeatmapCodec(4), read_faces)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["stream"] is True
    assert "workers" not in settings  # another number of them reads the same
    with pytest.raises(ValueError, match="differs in stream: True there, False here"):
        run(parsed(*words, "--resume"), make_detector, HeatmapCodec(4), read_faces)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="`--workers` must not be negative, but got -2"):
        parsed("--workers", "-2")


@pytest.mark.parametrize("markdown", [False, True])
def test_the_benchmark_prints_a_rate_for_every_part(monkeypatch, capsys, markdown):
    tiny = "--pictures 1 --image-size 32 --batch-size 2 --workers 0 --repeats 1 --no-detector"
    words = [*tiny.split(), *(["--markdown"] if markdown else [])]
    monkeypatch.setattr(sys, "argv", ["benchmark.py input", *words])
    assert input_benchmark.main() == 0
    lines = capsys.readouterr().out.strip().splitlines()
    rates = [float(line.strip("| ").split()[-1].replace(",", "")) for line in lines[-8:]]
    assert len(lines) == 8 + 1 + markdown
    assert min(rates) > 0
