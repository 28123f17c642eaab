"""Files that run code, never end, lead elsewhere, or belong to another process; and full disks."""

import errno
import importlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from campaigns.faces import contents, make_faces
from lab.checkpoints import read_states
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat
from small_study import people_root  # noqa: F401 # a fixture
from stopped import stopped_at

from advaug.base import files as files_module
from advaug.base.files import (
    LOCK,
    locked_folder,
    open_regular,
    remove_leftovers,
    whole_file,
    write_whole,
)
from advaug.cli import main
from advaug.datasets import CocoKeypoints, Decoding, Mpii, PtsFolder, read_pts, write_pts
from advaug.datasets.decoding import PILLOW_LIMIT
from advaug.datasets.pictures import picture_size, read_picture
from advaug.datasets.readers.mat import read_mat
from advaug.datasets.readers.people import read_json
from advaug.datasets.writers import manifest as manifest_module
from advaug.datasets.writers.corrupted import make_corrupted
from advaug.datasets.writers.manifest import JOURNAL
from advaug.datasets.writers.masked import make_masked
from advaug.detectors.hourglass import HourglassNet
from advaug.detectors.mdm import MDM
from advaug.detectors.timm_backbone import TimmHeatmapNet
from advaug.errors import DatasetError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# --- code in data -------------------------------------------------------------------------------


def test_an_eps_named_jpg_starts_no_other_program(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(subprocess, "check_call", None)
    picture = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a.jpg").write_bytes(picture)
    for read in (read_picture, picture_size):
        with pytest.raises(DatasetError, match=r"a\.jpg` must be a whole picture.*cannot identify"):
            read(tmp_path / "a.jpg")


def test_a_file_of_timm_runs_no_code(tmp_path):
    torch.save({"state_dict": Payload(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="a file that holds tensors only"):
        TimmHeatmapNet("resnet10t", 3, width=8, pretrained=tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
    # The way out of the message.
    source = TimmHeatmapNet("resnet10t", 3, width=8)
    save_file(source.backbone.state_dict(), tmp_path / "weights.safetensors")
    found = TimmHeatmapNet("resnet10t", 3, width=8, pretrained=tmp_path / "weights.safetensors")
    weight = next(source.backbone.parameters())
    assert torch.equal(next(found.backbone.parameters()), weight)


@pytest.mark.parametrize("value", [True, "weights.pth"])
def test_a_file_of_weights_sets_no_pretrained(tmp_path, value):
    network = TimmHeatmapNet("resnet10t", 3, width=8)
    network.arguments["pretrained"] = value
    network.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="the argument 'pretrained', which no file may set"):
        TimmHeatmapNet.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("arguments", ["[", "[]", "7", "[" * 100_000, None])
def test_arguments_of_another_kind_are_refused(tmp_path, arguments):
    metadata = {"format": "advaug.HourglassNet/1"}
    metadata |= {} if arguments is None else {"arguments": arguments}
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(ValueError, match=r"written by `HourglassNet\.save`, but got arguments"):
        HourglassNet.load(tmp_path / "a.safetensors")


def test_a_pipe_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="a folder, a pipe or a device"):
        HourglassNet.load(tmp_path / "a.safetensors")


# --- bombs and special files --------------------------------------------------------------------


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    for name in "abc":
        with pytest.raises(DatasetError, match="not a regular file"):
            read_picture(tmp_path / f"{name}.jpg")
        with pytest.raises(DatasetError, match="not a regular file"):
            read_pts(tmp_path / f"{name}.jpg")
        with pytest.raises(DatasetError, match="not a regular file"):
            read_json(tmp_path / f"{name}.jpg")
        with pytest.raises(DatasetError, match="not a regular file"):
            read_mat(tmp_path / f"{name}.jpg", "x", rule="hold `x`", fix="")
    with pytest.raises(ValueError, match="null byte"):
        open_regular("a\0b")


def test_a_folder_with_a_pipe_named_as_a_picture_names_it(tmp_path):
    make_faces(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe.pts").write_bytes((tmp_path / "000.pts").read_bytes())
    with pytest.raises(DatasetError, match=r"pipe\.png.*not a regular file"):
        PtsFolder(tmp_path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (3000, 2000)).save(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="at most 1000000 pixels, but got: 3000 x 2000"):
        read_picture(tmp_path / "a.png", Decoding(max_pixels=1_000_000))
    larger = Decoding(max_pixels=6_000_000)  # the way out of the message
    assert read_picture(tmp_path / "a.png", larger).size == (3000, 2000)


@pytest.mark.parametrize("factor", [1.1, 2.2])
def test_pillows_own_limit_can_be_raised_as_the_message_says(tmp_path, monkeypatch, factor):
    side = int((factor * PILLOW_LIMIT) ** 0.5)
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DatasetError, match=r"set `PIL\.Image\.MAX_IMAGE_PIXELS = None` too"):
            picture_size(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    decoding = Decoding(channels=1, max_pixels=side**2)
    if factor < 2:  # the larger one only takes longer
        assert picture_size(tmp_path / "a.png", decoding) == (side, side)


def test_a_deep_picture_makes_no_wide_copy(tmp_path):
    import tracemalloc

    side = 1500
    pixels = np.full((side, side), 60000, np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    tracemalloc.start()
    read_picture(tmp_path / "a.png", Decoding(channels=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 2 bytes a pixel as it is stored, read twice at most, and 1 as it is given.
    assert peak < 7 * side**2


def test_a_long_pts_file_is_refused(tmp_path):
    with open(tmp_path / "a.pts", "wb") as file:
        file.write(b"n_points: 1\n{\n1 1\n")
        file.truncate(10**10)
    with pytest.raises(DatasetError, match=r"a\.pts` must be at most 1000000 bytes"):
        read_pts(tmp_path / "a.pts")


def read_numbers(path, **options):
    return read_mat(path, "numbers", rule="hold `numbers`", fix="Ask again.", **options)


def test_matlab_files_are_read_as_plain_values(tmp_path):
    savemat(tmp_path / "a.mat", {"numbers": np.arange(6.0).reshape(2, 3)})
    assert read_numbers(tmp_path / "a.mat") == [[0, 1, 2], [3, 4, 5]]
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = {"name": "a", "box": [1, 2]}, {"name": "b", "box": [3, 4]}
    savemat(tmp_path / "a.mat", {"numbers": cells})
    assert read_numbers(tmp_path / "a.mat") == [
        {"name": "a", "box": [[1, 2]]},
        {"name": "b", "box": [[3, 4]]},
    ]


def test_a_matlab_file_that_never_ends_or_takes_the_memory_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"numbers": np.zeros((2000, 2000))}, do_compression=True)
    with pytest.raises(
        DatasetError, match=r"a\.mat` must hold `numbers`, but got an array of 4000"
    ):
        read_numbers(tmp_path / "a.mat")
    with pytest.raises(DatasetError, match=r"no end after 0\.01 s\. Ask again"):
        read_numbers(tmp_path / "a.mat", seconds=0.01)
    (tmp_path / "a.mat").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(DatasetError, match=r"a\.mat` must hold `numbers`, but got .*Error"):
        read_numbers(tmp_path / "a.mat")
    assert not (tmp_path / "ran").exists()


# --- names that lead elsewhere ------------------------------------------------------------------


def write_coco(root, name):
    root.mkdir(exist_ok=True)
    content = {
        "images": [{"id": 1, "file_name": name}],
        "categories": [{"id": 1, "keypoints": ["left_eye", "right_eye"]}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 2, 20, 20],
                "keypoints": [5, 5, 2, 9, 9, 2],
            }
        ],
    }
    (root / "keypoints.json").write_text(json.dumps(content))
    return root / "keypoints.json"


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "a/../../secret.png", "{folder}/secret.png", "..\\secret.png", "C:\\a.png"],
)
def test_a_name_outside_the_root_is_refused(tmp_path, name):
    Image.new("RGB", (32, 32)).save(tmp_path / "secret.png")
    path = write_coco(tmp_path / "root", name.format(folder=tmp_path))
    with pytest.raises(DatasetError, match=r"must be a file below .*Put the pictures there"):
        CocoKeypoints(tmp_path / "root", path)
    entry = {"center": [9, 9], "scale": 0.1, "joints": [[5, 5]] * 16, "joints_vis": [1] * 16}
    (tmp_path / "root" / "annot").mkdir()
    entries = [{"image": name.format(folder=tmp_path), **entry}]
    (tmp_path / "root" / "annot" / "train.json").write_text(json.dumps(entries))
    with pytest.raises(DatasetError, match="must be a file below"):
        Mpii(tmp_path / "root")


def test_a_link_within_the_root_leads_where_it_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "elsewhere" / "a.png")
    path = write_coco(tmp_path / "root", "link/a.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    assert len(CocoKeypoints(tmp_path / "root", path)) == 1


@pytest.mark.parametrize("name", [None, 7, "", "a\0b", ["a.png"], "x" * 300, "\ud800.png"])
def test_a_name_that_no_file_has_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match=r"must be (the name of a picture|a whole picture)"):
        CocoKeypoints(tmp_path / "root", write_coco(tmp_path / "root", name))


# --- replaced, odd names, NaN -------------------------------------------------------------------


@pytest.mark.parametrize("way", ["crop", "cut"])
def test_a_picture_replaced_by_another_size_is_named(tmp_path, way):
    make_faces(tmp_path, 1)
    dataset = PtsFolder(tmp_path)
    Image.new("RGB", (90, 30)).save(tmp_path / "000.png")
    with pytest.raises(DatasetError, match=r"000\.png` must be 64 x 64, .* but got 90 x 30"):
        dataset.cut(0) if way == "cut" else dataset[0]
    (tmp_path / "000.png").unlink()
    os.mkfifo(tmp_path / "000.png")
    with pytest.raises(DatasetError, match=r"000\.png.*not a regular file"):
        dataset.cut(0) if way == "cut" else dataset[0]


def test_names_of_230_bytes_and_names_that_are_no_text(tmp_path, capfd):
    source = tmp_path / os.fsdecode(b"fa\xffces")
    make_faces(source, 1)
    for suffix in (".png", ".pts"):
        (source / f"000{suffix}").rename(source / (os.fsdecode(b"\xfe") + "x" * 225 + suffix))
    assert main(["make-masked", str(source), str(tmp_path / os.fsdecode(b"o\xffut"))]) == 0
    assert len(PtsFolder(tmp_path / os.fsdecode(b"o\xffut"))) == 1
    assert main(["make-masked", str(tmp_path / os.fsdecode(b"no\xff")), str(tmp_path / "x")]) == 2
    assert "must be a folder" in capfd.readouterr().err


def test_head_boxes_that_are_not_numbers_are_refused(tmp_path):
    (tmp_path / "annot").mkdir()
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "a.png")
    entry = {"image": "a.png", "center": [9, 9], "scale": 0.1, "joints": [[5, 5]] * 16}
    (tmp_path / "annot/valid.json").write_text(json.dumps([entry | {"joints_vis": [1] * 16}]))
    savemat(tmp_path / "annot/gt_valid.mat", {"headboxes_src": np.full((2, 2, 1), np.nan)})
    with pytest.raises(DatasetError, match="must have finite `headboxes_src`"):
        Mpii(tmp_path, "valid").head_sizes()


# --- full disks and damage ----------------------------------------------------------------------


def test_a_full_disk_is_named_with_the_way_on(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.bin", b"old")
    make_faces(tmp_path / "faces", 2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: write_whole(tmp_path / "a.bin", b"new"), lambda: masked(tmp_path)):
        with pytest.raises(OSError, match="No space left.*Free some space .* run the same again"):
            write()
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    monkeypatch.undo()
    assert masked(tmp_path) == 2


def masked(tmp_path, **options):
    if not (tmp_path / "faces").exists():
        make_faces(tmp_path / "faces", 2)
    return make_masked(tmp_path / "faces", tmp_path / "out", **options)


def test_bytes_that_are_missing_without_an_error_are_seen(tmp_path, monkeypatch):
    from pathlib import Path

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: original(path, data[:-1]))
    with pytest.raises(OSError, match="2 of 3 bytes were written"):
        write_whole(tmp_path / "a.bin", b"abc")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    make_faces(tmp_path / "faces", 2)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "from advaug.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ["make-masked", str(tmp_path / "faces"), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "File too large: nothing was written under this name. Free some space" in done.stderr
    assert not list(tmp_path.glob("out/**/*.png"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3000


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "pts"])
def test_a_second_call_finds_what_is_damaged(tmp_path, damage):
    assert masked(tmp_path) == 2
    whole = contents(tmp_path / "out")
    path = tmp_path / "out" / ("000.pts" if damage == "pts" else "000.png")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "cut" else data)
    assert masked(tmp_path) == 1
    assert contents(tmp_path / "out") == whole
    entry = json.loads(whole["manifest.json"])["pictures"]["000.png"]
    assert entry["bytes"] == len(whole["000.png"])


@pytest.mark.parametrize(
    "content",
    [b"[]", b"7", b"{}", b'{"pictures": 7}', b'{"pictures": {"a": 7}}', b"[" * 100_000, b"\xff"],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, content):
    masked(tmp_path)
    (tmp_path / "out" / "manifest.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"no readable `manifest\.json`.*Choose another folder"):
        masked(tmp_path)
    assert make_masked(tmp_path / "faces", tmp_path / "another") == 2  # the way out


def test_a_kill_while_the_first_manifest_is_written_can_be_resumed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{'0' * 32}.tmp").write_bytes(b'{"rend')
    assert masked(tmp_path) == 2
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in (f".{'a' * 32}.tmp", "mine.tmp", ".hidden.tmp"):
        (tmp_path / "deep" / name).write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.tmp")) == [".hidden.tmp", "mine.tmp"]


# --- two processes ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_folder_is_written_by_one_process_at_a_time(tmp_path, monkeypatch, way):
    if way == "file":  # where folders cannot be locked
        lock_file = files_module._lock_file
        monkeypatch.setattr(files_module, "_lock", lambda folder: lock_file(folder / LOCK))
    make_faces(tmp_path / "faces", 2)
    with locked_folder(tmp_path / "out"):
        for write in (make_masked, make_corrupted):
            with pytest.raises(DatasetError, match="one process at a time.*choose another folder"):
                write(tmp_path / "faces", tmp_path / "out")
        assert make_masked(tmp_path / "faces", tmp_path / "other") == 2  # the way out
    assert make_masked(tmp_path / "faces", tmp_path / "out") == 2


def test_two_writers_of_other_settings_do_not_mix(tmp_path):
    make_faces(tmp_path / "faces", 8)
    command = [sys.executable, "-m", "advaug", "make-masked", str(tmp_path / "faces")]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / "out"), "--seed", str(seed)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    errors = [process.communicate()[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], errors
    assert any(words in errors[codes.index(2)] for words in ("one process at a time", "made with"))
    seed = 1 + codes.index(0)
    make_masked(tmp_path / "faces", tmp_path / "expected", seed=seed)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_ctrl_c_ends_with_one_line_that_says_how_to_go_on(tmp_path):
    make_faces(tmp_path / "faces", 4)
    options = ["--kinds", "gaussian_noise", "brightness", "--severities", "1"]
    command = ["corrupt", *options, "--", str(tmp_path / "faces")]
    # In the second folder, at its second picture.
    stopped = stopped_at(10 + 5, signal.SIGINT, *command, tmp_path / "out")
    assert stopped.returncode == 130
    assert stopped.stderr == "advaug: stopped. Run the same command again to go on.\n"
    landmarks = [name for name in contents(tmp_path / "out") if name.endswith(".pts")]
    assert len(landmarks) == 4 + 2  # which are written before their picture
    assert not list(tmp_path.rglob("*.tmp"))
    for folder in ("out", "expected"):
        assert main([*command, str(tmp_path / folder)]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_stop_while_the_manifest_is_written_loses_no_checks(tmp_path, monkeypatch):
    make_faces(tmp_path / "faces", 2)
    write = manifest_module.write_whole
    calls = []

    def stopped(path, data):
        calls.append(path)
        if len(calls) == 2:  # after the pictures
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(manifest_module, "write_whole", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_masked(tmp_path / "faces", tmp_path / "out")
    assert (tmp_path / "out" / JOURNAL).exists()
    assert make_masked(tmp_path / "faces", tmp_path / "out") == 0  # nothing was lost
    assert make_masked(tmp_path / "faces", tmp_path / "expected") == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(UnicodeEncodeError), whole_file(tmp_path / "a") as temporary:
        temporary.write_text("h\xe4lf", encoding="ascii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/folder"])
@pytest.mark.parametrize("name", ["reproduce", "train_300w_hg", "study"])
def test_an_output_that_is_no_folder_is_told_before_anything_begins(
    root, tmp_path, capsys, monkeypatch, name, place
):
    (tmp_path / "file").touch()
    script = importlib.import_module(name)  # of the folder `examples`
    study = ["--plan", "tiny", "--choose-people", "2", "--root", str(root)]
    words = {"reproduce": ["--table", "7"], "study": study}.get(name, [])
    monkeypatch.setattr(sys, "argv", [name, *words, "--output", str(tmp_path / place)])
    try:
        code = script.main()
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert "`--output` must lead to a folder that can be written" in capsys.readouterr().err


def test_a_destination_within_a_file_is_told(tmp_path):
    make_faces(tmp_path / "faces", 1)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="`destination` must lead to a folder that can be written"):
        make_masked(tmp_path / "faces", tmp_path / "file" / "out")


def test_turned_sources_are_copied_as_is_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (96, 64)).save(tmp_path / "faces" / "a.jpg", exif=exif)
    write_pts(tmp_path / "faces" / "a.pts", [[20 + i % 8, 20 + i // 2] for i in range(68)])
    command = ["make-masked", str(tmp_path / "faces")]
    with pytest.warns(UserWarning, match="EXIF orientation"):
        assert main([*command, str(tmp_path / "warned")]) == 0
    assert main([*command, str(tmp_path / "stored"), "--orientation", "stored"]) == 0
    assert main([*command, str(tmp_path / "exif"), "--orientation", "exif"]) == 0
    assert contents(tmp_path / "warned") == contents(tmp_path / "stored")
    assert picture_size(tmp_path / "exif" / "a.jpg") == (64, 96)
    with pytest.raises(ValueError, match="`decoding` must have 3 channels"):
        make_masked(tmp_path / "faces", tmp_path / "grey", decoding=Decoding(channels=1))


# --- weights that are larger than their file ----------------------------------------------------

HUGE = {
    "num_landmarks": 10**9,
    "width": 8 * 10**8,
    "stacks": 10**7,
    "depth": 10**7,
    "hidden": 10**9,
    "patch_size": 10**6,
    "steps": 10**9,
    "image_size": 10**6,
    "backbone": "vit_giant_patch14_dinov2",
}
NETWORKS = {
    "hourglass": (
        lambda: HourglassNet(3, width=8, depth=1),
        ("num_landmarks", "width", "stacks", "depth"),
    ),
    "mdm": (lambda: MDM(torch.rand(3, 2)), ("hidden", "patch_size", "steps")),
    "timm": (
        lambda: TimmHeatmapNet("test_vit", 3, width=8),
        ("num_landmarks", "width", "image_size", "backbone"),
    ),
}


def test_a_file_of_weights_makes_no_network_larger_than_itself(tmp_path):
    claims = []
    for name, (make, arguments) in NETWORKS.items():
        network = make()
        network.save(tmp_path / f"{name}.safetensors")
        type(network).load(tmp_path / f"{name}.safetensors")
        for argument in arguments:
            network.arguments = {**make().arguments, argument: HUGE[argument]}
            network.save(tmp_path / f"{name}-{argument}.safetensors")
            claims.append(
                (type(network).__name__, str(tmp_path / f"{name}-{argument}.safetensors"))
            )
    script = f"""
import json, resource, sys
sys.path[:0] = {sys.path!r}
from advaug import detectors
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = []
for name, path in {claims!r}:
    try:
        getattr(detectors, name).load(path)
    except ValueError as error:
        found.append(str(error))
    else:
        found.append("read")
print(json.dumps([found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    messages, peak = json.loads(done.stdout)
    for (name, path), message in zip(claims, messages, strict=True):
        assert f"must be a file written by `{name}.save`, but got" in message, path
    assert peak < 300  # MiB


def test_a_compressed_file_of_weights_is_refused_with_the_way_out(tmp_path):
    source = TimmHeatmapNet("resnet10t", 3, width=8)
    torch.save(source.backbone.state_dict(), tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as given,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for part in given.infolist():
            bomb.writestr(part.filename, given.read(part))
    TimmHeatmapNet("resnet10t", 3, width=8, pretrained=tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"are compressed.*Save its `state_dict\(\)` with safetensors"
    ):
        TimmHeatmapNet("resnet10t", 3, width=8, pretrained=tmp_path / "b.pth")
    with pytest.raises(DatasetError, match=r"must be a checkpoint.*are compressed"):
        read_states(tmp_path / "b.pth")
    read_states(tmp_path / "a.pth")
