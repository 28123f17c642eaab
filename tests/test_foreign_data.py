"""Files as other people's tools write them, each with the one right reading, or refused by name."""

import json
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from advaug.datasets import CocoKeypoints, Decoding, PtsFolder, read_pts, write_pts
from advaug.datasets.pictures import picture_size, read_picture
from advaug.errors import DatasetError
from advaug.evaluation.pose import oks_average_precision
from advaug.schemes import scheme_from_names

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
DEEP = RAMP.astype(np.uint16) * 257  # 16 bits
ORIENTATION, PHOTOMETRIC = 0x0112, 262


def tagged(**tags):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[int(tag[1:])] = value
    return directory


def inverted(path, pixels):
    """A grey TIFF of 16 bits in which zero is white, as X-ray machines write it."""
    Image.fromarray(65535 - pixels).save(path)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] == PHOTOMETRIC:
            data[entry + 8 : entry + 10] = struct.pack("<H", 0)
    path.write_bytes(data)


def twelve_bits(path):
    """A PGM that says itself that white is 4095."""
    levels = (RAMP.astype(np.uint32) * 4095 // 255).astype(">u2")
    path.write_bytes(b"P5 64 48 4095\n" + levels.tobytes())


def save(picture, name, **options):
    return lambda folder: picture.save(folder / name, **options) or folder / name


def made(name, write, *arguments):
    def build(folder):
        write(folder / name, *arguments)
        return folder / name

    return build


GREY = Image.fromarray(RAMP)
PICTURES = {
    "grey png": (save(GREY, "a.png"), {}),
    "16-bit png": (save(Image.fromarray(DEEP), "a.png"), {}),
    "16-bit tiff": (save(Image.fromarray(DEEP), "a.tif"), {}),
    "16-bit tiff, white is zero": (made("a.tif", inverted, DEEP), {}),
    "12 bits in a pgm of its own": (made("a.pgm", twelve_bits), {}),
    "12 bits in 16, white given": (
        save(Image.fromarray((RAMP.astype(np.uint32) * 4095 // 255).astype(np.uint16)), "a.tif"),
        {"white": 4095},
    ),
    "float tiff in [0, 1]": (save(Image.fromarray(RAMP.astype(np.float32) / 255), "a.tif"), {}),
    "float tiff in 0..255": (
        save(Image.fromarray(RAMP.astype(np.float32)), "a.tif"),
        {"white": 255},
    ),
    "32-bit tiff, white given": (
        save(Image.fromarray(RAMP.astype(np.int32) * 1000), "a.tif"),
        {"white": 255000},
    ),
    "palette gif": (save(GREY, "a.gif"), {}),
    "palette png": (save(GREY.convert("P"), "a.png"), {}),
    "alpha": (save(Image.merge("RGBA", [GREY] * 3 + [Image.new("L", (64, 48))]), "a.png"), {}),
    "grey with alpha": (save(Image.merge("LA", [GREY, Image.new("L", (64, 48))]), "a.png"), {}),
    "cmyk jpeg": (save(GREY.convert("RGB").convert("CMYK"), "a.jpg"), {}),
    "cmyk tiff": (save(GREY.convert("RGB").convert("CMYK"), "a.tif"), {}),
    "ycbcr tiff": (save(GREY.convert("RGB").convert("YCbCr"), "a.tif"), {}),
    "bmp": (save(GREY.convert("RGB"), "a.bmp"), {}),
    "webp": (save(GREY.convert("RGB"), "a.webp", lossless=True), {}),
    "one channel asked for": (save(GREY.convert("RGB"), "a.png"), {"channels": 1}),
    "one channel of 16 bits": (save(Image.fromarray(DEEP), "a.png"), {"channels": 1}),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_has_its_levels_whatever_its_kind(tmp_path, kind):
    build, options = PICTURES[kind]
    decoding = Decoding(**options)
    path = build(tmp_path)
    found = np.asarray(read_picture(path, decoding)).astype(int)
    assert found.shape == ((48, 64) if decoding.channels == 1 else (48, 64, 3))
    expected = RAMP if decoding.channels == 1 else RAMP[..., None]
    assert abs(found - expected).max() <= (6 if "jpeg" in kind else 1)
    assert picture_size(path, decoding) == (64, 48)


DARK = {
    "12 bits in 16": (DEEP // 16, "`decoding=Decoding(white=...)`"),
    "10 bits in 16": (DEEP // 64, "`decoding=Decoding(white=...)`"),
    "float in 0..255": (RAMP.astype(np.float32), "`decoding=Decoding(white=...)`"),
    "float with NaN": (np.where(RAMP == 255, np.nan, 0.5).astype(np.float32), "to nan"),
    "negative": (RAMP.astype(np.int32) - 100, "from -100 to 155"),
    "32 bits": (RAMP.astype(np.int32) * 1000, "at most 255000"),
}


@pytest.mark.parametrize("kind", DARK)
def test_a_picture_whose_white_is_not_known_is_refused_by_name(tmp_path, kind):
    pixels, fact = DARK[kind]
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    for read in (read_picture, picture_size):
        with pytest.raises(DatasetError, match=r"a\.tif` must have") as caught:
            read(tmp_path / "a.tif")
        assert fact in str(caught.value)


def test_a_colour_picture_of_16_bits_is_not_silently_black(tmp_path):
    colours = np.repeat((DEEP // 16)[..., None], 3, axis=2).astype("<u2")
    strip = TiffImagePlugin.ImageFileDirectory_v2()
    strip[258], strip[262], strip[277] = (16, 16, 16), 2, 3
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    # The same file with 16 bits a sample, its pixels at the end.
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    end = len(data)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack("<H", data[entry : entry + 2])
        if tag == 258:
            (place,) = struct.unpack("<I", data[entry + 8 : entry + 12])
            data[place : place + 6] = struct.pack("<HHH", 16, 16, 16)
        if tag == 273:
            data[entry + 8 : entry + 12] = struct.pack("<I", end)
        if tag == 279:
            data[entry + 8 : entry + 12] = struct.pack("<I", colours.nbytes)
    (tmp_path / "a.tif").write_bytes(bytes(data) + colours.tobytes())
    with pytest.raises(DatasetError, match="Convert it to 8 bits with the right white"):
        read_picture(tmp_path / "a.tif")


CORNER = np.zeros((48, 64), np.uint8)
CORNER[:8, :8] = 255  # top left


def with_orientation(folder, name, tag):
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    options = {"tiffinfo": tagged(_274=tag)} if name.endswith("tif") else {"exif": exif}
    Image.fromarray(CORNER).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize(
    ("tag", "corner"),
    list(enumerate([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0), (0, 1), (1, 1), (1, 0)], start=1)),
)
def test_the_corner_is_where_the_chosen_orientation_puts_it(tmp_path, name, tag, corner):
    path = with_orientation(tmp_path, name, tag)
    stored = np.asarray(read_picture(path, Decoding("stored")))
    assert stored.shape[:2] == (48, 64)
    assert stored[2, 2, 0] > 200
    turned = np.asarray(read_picture(path, Decoding("exif")))
    height, width = turned.shape[:2]
    assert (height, width) == ((64, 48) if tag > 4 else (48, 64))
    assert turned[-3 if corner[0] else 2, -3 if corner[1] else 2, 0] > 200
    assert picture_size(path, Decoding("exif")) == (width, height)
    assert picture_size(path) == (64, 48)


def test_an_orientation_that_nobody_chose_is_said_once(tmp_path):
    with_orientation(tmp_path, "a.jpg", 6)
    points = np.random.default_rng(0).uniform(10, 40, (5, 2))
    write_pts(tmp_path / "a.pts", points)
    with pytest.warns(UserWarning, match="EXIF orientation, which is not applied") as caught:
        PtsFolder(tmp_path, num_landmarks=5)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for orientation in ("stored", "exif"):
            PtsFolder(tmp_path, num_landmarks=5, decoding=Decoding(orientation))


def test_a_turned_picture_is_cropped_alike_by_workers_and_by_the_device(tmp_path):
    from advaug.datasets.cut import pack_cuts, resample_cuts

    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    large = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", exif=exif, quality=95)
    write_pts(tmp_path / "a.pts", [[100, 100], [300, 500], [200, 300]])
    dataset = PtsFolder(tmp_path, num_landmarks=3, image_size=64, decoding=Decoding("exif"))
    cuts = pack_cuts([dataset.cut(0)])
    picture = resample_cuts(cuts.canvas, cuts.geometry, 64)[0]
    assert (picture - dataset[0].image).abs().mean() < 0.02


def test_grey_samples_have_one_channel(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "a.png")
    write_pts(tmp_path / "a.pts", [[10, 10], [40, 30], [20, 20]])
    dataset = PtsFolder(tmp_path, num_landmarks=3, image_size=32, decoding=Decoding(channels=1))
    assert dataset[0].image.shape == (1, 32, 32)
    assert dataset.cut(0).pixels.shape[2] == 1


# --- .pts ---------------------------------------------------------------------------------------

POINTS = [[0, 0], [9.5, 19]]
TEXTS = {
    "comments": "# by hand\nversion: 1 // of the format\nn_points: 2\n{\n1 1 # nose\n10.5 20\n}\n",
    "a brace on the header's line": "version: 1\nn_points: 2 {\n1 1\n10.5 20\n}\n",
    "a brace on a point's line": "n_points: 2\n{ 1 1\n10.5 20 }\n",
    "commas": "n_points: 2\n{\n1, 1\n10.5,20\n}\n",
    "tabs and Windows' ends": "version: 1\r\nn_points:\t2\r\n{\r\n1\t1\r\n10.5\t20\r\n}\r\n",
    "a byte order mark": "\ufeffn_points: 2\n{\n1 1\n10.5 20\n}\n",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_points_are_read_however_they_are_written(tmp_path, kind):
    (tmp_path / "a.pts").write_bytes(TEXTS[kind].encode())
    assert read_pts(tmp_path / "a.pts").tolist() == POINTS


MARKED = "n_points: 4\n{\n11 21\n-12 -22\n-1 -1\n-3 24\n}\n"


def test_negative_points_are_positions_covered_or_missing_as_is_asked(tmp_path):
    path = tmp_path / "a.pts"
    path.write_text(MARKED)
    found = read_pts(path, negative="occluded")
    assert found.landmarks.tolist() == [[10, 20], [11, 21], [0, 0], [-4, 23]]
    assert found.visible.tolist() == [True, True, False, True]
    assert found.occluded.tolist() == [False, True, True, False]
    assert read_pts(path, negative="position")[1].tolist() == [-13, -23]
    with pytest.warns(UserWarning, match="2 of 4 points are negative"):
        assert read_pts(path)[1].tolist() == [-13, -23]


def test_points_in_one_place_are_said(tmp_path):
    (tmp_path / "a.pts").write_text("n_points: 4\n{\n5 5\n0 0\n0 0\n0 0\n}\n")
    with pytest.warns(UserWarning, match="3 of 4 points lie in one place"):
        read_pts(tmp_path / "a.pts")


def test_a_folder_with_marks_is_read_as_is_asked(tmp_path):
    GREY.save(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text(MARKED)
    with pytest.warns(UserWarning, match='Pass `negative="occluded"`'):
        PtsFolder(tmp_path, num_landmarks=4)
    dataset = PtsFolder(tmp_path, num_landmarks=4, negative="occluded", image_size=64)
    sample = dataset[0]
    assert sample.visible.tolist()[2] is False
    assert sample.occluded is not None
    assert torch.equal(
        sample.occluded,
        torch.from_numpy(read_pts(tmp_path / "a.pts", negative="occluded").occluded),
    )
    assert PtsFolder(tmp_path, num_landmarks=4, negative="position").occluded is None
    # The box is that of the points with a position: from -4 to 11 and from 20 to 23.
    crop = dataset.crop(0)
    assert crop.side == pytest.approx(np.hypot(15, 3))
    torch.testing.assert_close(
        sample.landmarks[:2], torch.from_numpy(crop.to_crop([[10, 20], [11, 21]])).float()
    )


def test_marks_beyond_the_picture_name_the_option(tmp_path):
    GREY.save(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text("n_points: 3\n{\n11 21\n-90 -45\n-93 -47\n}\n")
    with pytest.raises(DatasetError, match=r'near its 64 x 48.*`negative="occluded"`'):
        PtsFolder(tmp_path, num_landmarks=3)


def test_an_exact_name_wins_over_one_with_other_spaces(tmp_path):
    for name, points in (("a b", [[5, 5], [20, 30]]), ("ab", [[6, 6], [30, 20]])):
        GREY.save(tmp_path / f"{name}.png")
        write_pts(tmp_path / f"{name}.pts", points)
    dataset = PtsFolder(tmp_path, num_landmarks=2)
    assert [path.name for path in dataset.paths] == ["a b.png", "ab.png"]
    back = dataset.crop(1).to_picture(dataset[1].landmarks)
    np.testing.assert_allclose(back, [[6, 6], [30, 20]], atol=1e-4)


def test_names_that_differ_in_case_are_named(tmp_path):
    GREY.save(tmp_path / "Face.png")
    write_pts(tmp_path / "face.pts", POINTS)
    with pytest.raises(DatasetError, match=r"Face\.png.*`face\.pts`, whose letters differ in case"):
        PtsFolder(tmp_path, num_landmarks=2)
    (tmp_path / "face.pts").rename(tmp_path / "Face.pts")  # the fix
    assert len(PtsFolder(tmp_path, num_landmarks=2)) == 1


# --- COCO ---------------------------------------------------------------------------------------

NAMES = ["nose", "eyeL", "eyeR"]
KEYPOINTS = [10, 12, 2, 14.5, 10, 1, 20, 30, 2]


def person(number, image=1, **changes):
    shift = 3 * number if isinstance(number, int) else 0
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [4, 8, 32, 30],
        "area": 300.0,
        "iscrowd": 0,
        "keypoints": [10 + shift, *KEYPOINTS[1:]],
    } | changes


def coco(**changes):
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
            {"id": 2, "file_name": "b.png", "width": 64, "height": 48},
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": NAMES}],
        "annotations": [person(1), person(2), person(3, image=2)],
    } | changes


def people(*annotations):
    return coco(annotations=list(annotations))


def without(record, *names):
    return {name: value for name, value in record.items() if name not in names}


NESTED = [[10, 12, 2], [14.5, 10, 1], [20, 30, 2]]
RLE = {"size": [48, 64], "counts": [0, 3072]}
# What is odd, and how many people there are.
FILES = {
    "as COCO has it": (coco(), 3),
    "numbers as strings": (
        people(
            person(1, keypoints=[str(value) for value in KEYPOINTS], bbox=["4", "8", "32", "30"]),
            person(2, area="300.5", iscrowd="0"),
        ),
        2,
    ),
    "ids as strings": (people(person("1", image="1", category_id="1"), person("x7", image="2")), 2),
    "ids as floats": (people(person(1, image=1.0, category_id=1.0)), 1),
    "an id of 0": (people(person(0), person(1)), 2),
    "a picture's id of 0": (
        coco(images=[{"id": 0, "file_name": "a.png"}], annotations=[person(1, image=0)]),
        1,
    ),
    "a category's id of 0": (
        coco(
            categories=[{"id": 0, "name": "m", "keypoints": NAMES}],
            annotations=[person(1, category_id=0)],
        ),
        1,
    ),
    "no area": (people(without(person(1), "area"), without(person(2), "area")), 2),
    "an area of 0": (people(person(1, area=0), person(2, area=0)), 2),
    "an area of null": (people(person(1, area=None)), 1),
    "a wrong num_keypoints": (people(person(1, num_keypoints=0), person(2, num_keypoints=99)), 2),
    "no iscrowd": (people(without(person(1), "iscrowd")), 1),
    "iscrowd is null": (people(person(1, iscrowd=None)), 1),
    "a crowd": (people(person(1), person(2, iscrowd=1)), 1),
    "a crowd without a box": (people(person(1), without(person(2, iscrowd="1"), "bbox")), 1),
    "null keypoints": (people(person(1), person(2, keypoints=None)), 1),
    "no keypoints": (people(person(1), without(person(2), "keypoints", "bbox")), 1),
    "keypoints of zeros": (people(person(1), person(2, keypoints=[0] * 9)), 1),
    "nested triplets": (people(person(1, keypoints=NESTED)), 1),
    "null where nothing is annotated": (
        people(person(1, keypoints=[10, 12, 2, None, None, 0, 20, 30, 2])),
        1,
    ),
    "null triplets": (people(person(1, keypoints=[10, 12, 2, None, None, None, 20, 30, 2])), 1),
    "null sizes": (
        coco(
            images=[
                {"id": 1, "file_name": "a.png", "width": None, "height": None},
                {"id": 2, "file_name": "b.png", "width": 0, "height": 0},
            ]
        ),
        3,
    ),
    "sizes as strings": (
        coco(
            images=[
                {"id": 1, "file_name": "a.png", "width": "64", "height": "48"},
                {"id": 2, "file_name": "b.png"},
            ]
        ),
        3,
    ),
    "backslashes": (
        coco(
            images=[
                {"id": 1, "file_name": "sub\\c.png"},
                {"id": 2, "file_name": ".\\b.png"},
            ]
        ),
        3,
    ),
    "segmentations as RLE": (people(person(1, segmentation=RLE), person(2, segmentation=RLE)), 2),
    "a category without keypoints": (
        coco(
            categories=[
                {"id": 1, "name": "mouse", "keypoints": NAMES},
                {"id": 2, "name": "cage"},
            ],
            annotations=[person(1), {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3]}],
        ),
        1,
    ),
}
ENCODINGS = {"a byte order mark": "utf-8-sig", "UTF-16": "utf-16"}


def write_coco(folder, content, encoding="utf-8"):
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        GREY.save(folder / name)
    path = folder / "keypoints.json"
    path.write_bytes(json.dumps(content).encode(encoding))
    return path


def perfect(dataset):
    """What a detector without an error would give."""
    landmarks = np.stack([dataset.annotation(index)[0].numpy() for index in range(len(dataset))])
    return dataset.results(landmarks.astype(np.float64))


def check_coco(dataset, count):
    pytest.importorskip("pycocotools")
    assert len(dataset) == count
    for index, each in enumerate(dataset.people):
        assert each.area > 0
        _, visible = dataset.annotation(index)
        points = dataset.crop(index).to_picture(dataset[index].landmarks)
        np.testing.assert_allclose(points[visible.numpy()][-1], [20, 30], atol=1e-4)
    found = oks_average_precision(dataset.annotations, perfect(dataset), sigmas=[0.05] * 3)
    assert found["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", FILES)
def test_a_json_is_read_and_perfect_predictions_have_an_ap_of_1(tmp_path, kind):
    content, count = FILES[kind]
    check_coco(CocoKeypoints(tmp_path, write_coco(tmp_path, content)), count)


@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_json_is_read_in_every_encoding(tmp_path, kind):
    path = write_coco(tmp_path, coco(), ENCODINGS[kind])
    check_coco(CocoKeypoints(tmp_path, path), 3)


def test_repeated_ids_are_said_and_nobody_is_lost(tmp_path):
    images = [*coco()["images"], coco()["images"][0]]
    content = coco(images=images, annotations=[person(7), person(7, keypoints=KEYPOINTS)])
    path = write_coco(tmp_path, content)
    with pytest.warns(UserWarning, match="repeats 1 ids") as caught:
        dataset = CocoKeypoints(tmp_path, path)
    assert len(caught) == 2
    check_coco(dataset, 2)


BROKEN = {
    "a dangling picture": (person(9, image=5), "annotation 9: `image_id` must be that of a pict"),
    "a dangling category": (person(9, category_id=4), "annotation 9: `category_id` must be that"),
    "no category": (without(person(9), "category_id"), "`category_id` must be that of a category"),
    "an id that is a list": (person([9]), r"annotation \[9\]: `id` must be a whole number"),
    "no id": (without(person(9), "id"), "annotation number 1: `id` must be a whole number"),
    "the other corner": (person(9, bbox=[40, 30, -4, 8]), "Write the size, not the other corner"),
    "a huge number": (person(9, area=10**400), "`area` must be 1 finite numbers"),
    "infinity": (person(9, area=float("inf")), "`area` must be 1 finite numbers"),
    "null with a v": (person(9, keypoints=[None, None, 2] * 3), "`keypoints` must be 9 finite"),
    "text": (person(9, keypoints="none"), "`keypoints` must be 9 finite numbers"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_entry_is_named_and_the_rest_is_measured(tmp_path, kind):
    entry, message = BROKEN[kind]
    path = write_coco(tmp_path, people(person(1), entry))
    with pytest.raises(DatasetError, match=message):
        CocoKeypoints(tmp_path, path)
    with pytest.warns(UserWarning, match="1 problems"):
        dataset = CocoKeypoints(tmp_path, path, skip_broken=True)
    check_coco(dataset, 1)


def test_one_id_for_two_pictures_is_a_problem_of_both(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]
    content = coco(images=[*images, {"id": 2, "file_name": "b.png"}])
    path = write_coco(tmp_path, content)
    with pytest.raises(DatasetError, match="`id` must be that of one picture") as caught:
        CocoKeypoints(tmp_path, path)
    assert str(caught.value).count("that of several") == 2
    with pytest.warns(UserWarning, match="3 problems|repeats 1 ids") as warned:
        dataset = CocoKeypoints(tmp_path, path, skip_broken=True)
    assert len(warned) == 2
    check_coco(dataset, 1)


def test_a_turned_size_names_the_orientation(tmp_path):
    with_orientation(tmp_path, "t.jpg", 6)
    images = [{"id": 1, "file_name": "t.jpg", "width": 48, "height": 64}]
    path = write_coco(tmp_path, coco(images=images, annotations=[person(1)]))
    with pytest.raises(DatasetError, match="Its EXIF orientation 6 exchanges the two"):
        CocoKeypoints(tmp_path, path)
    dataset = CocoKeypoints(tmp_path, path, decoding=Decoding(orientation="exif"))  # the fix
    check_coco(dataset, 1)


def test_results_of_another_file_are_refused(tmp_path):
    pytest.importorskip("pycocotools")
    dataset = CocoKeypoints(tmp_path, write_coco(tmp_path, coco()))
    results = perfect(dataset)
    results[1] |= {"image_id": 77}
    with pytest.raises(ValueError, match="`image_id` of the annotations, but got 77 at index 1"):
        oks_average_precision(dataset.annotations, results, sigmas=[0.05] * 3)
    with pytest.raises(ValueError, match="each of the 3 keypoints"):
        oks_average_precision(dataset.annotations, perfect(dataset))


# --- left and right -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "permutation"),
    [
        (["eyeL", "eyeR"], (1, 0)),
        (["LEye", "REye", "nose"], (1, 0, 2)),
        (["hip_l", "hip_r"], (1, 0)),
        (["Ear_L", "Ear_R"], (1, 0)),
        (["lf_paw", "rf_paw", "lh_paw", "rh_paw"], (1, 0, 3, 2)),
        (["pawFL", "pawFR"], (1, 0)),
        (["l ankle", "r ankle"], (1, 0)),
        (["lhip", "rhip", "lip"], (1, 0, 2)),
        (["L.ear", "R.ear"], (1, 0)),
        (["Left-Ear", "right-ear"], (1, 0)),
        (["leftear", "rightear", "bright_spot", "upright_post"], (1, 0, 2, 3)),
        (["LEFT_EYE", "RIGHT_EYE"], (1, 0)),
        (["l_eye_outer", "l_eye_inner", "r_eye_inner", "r_eye_outer"], (3, 2, 1, 0)),
        (["left_eye_left", "left_eye_right", "right_eye_left", "right_eye_right"], (3, 2, 1, 0)),
        (["T12", "L1", "L5", "ear_l", "ear_r"], (0, 1, 2, 4, 3)),
    ],
)
def test_sides_are_found_in_names(names, permutation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scheme_from_names(names).flip_permutation == permutation


def test_names_without_sides_are_said_with_both_ways_out():
    from advaug.augment.handcrafted import HandcraftedAugmentation

    names = ["bright_spot", "upright_post", "tail"]
    with pytest.warns(UserWarning, match="no left and right") as caught:
        assert scheme_from_names(names).flip_permutation == (0, 1, 2)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scheme_from_names(names, pairs=[]).flip_permutation == (0, 1, 2)
        given = scheme_from_names(names, pairs=[("bright_spot", "tail")])
        assert given.flip_permutation == (2, 1, 0)
        HandcraftedAugmentation(flip=0)


def test_one_side_without_the_other_names_the_way_out(tmp_path):
    names = ["left_ear", "tail", "ear_2"]
    with pytest.raises(ValueError, match=r"must hold 'right_ear' beside.*or give `pairs`"):
        scheme_from_names(names)
    assert scheme_from_names(names, pairs=[("left_ear", "ear_2")]).flip_permutation == (2, 1, 0)
    with pytest.raises(ValueError, match=r"Correct \['nose'\]"):
        scheme_from_names(names, pairs=[("left_ear", "nose")])
    categories = [{"id": 1, "keypoints": ["left_ear", "nose", "ear_2"]}]
    path = write_coco(tmp_path, coco(categories=categories))
    dataset = CocoKeypoints(tmp_path, path, pairs=[("left_ear", "ear_2")])
    assert dataset.scheme is not None
    assert dataset.scheme.flip_permutation == (2, 1, 0)
