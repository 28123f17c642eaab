"""Messages about the annotations of people, followed in one folder each."""

import json

import numpy as np
from messages.kit import InFolder
from small_sets import add_picture, points

from advaug.datasets import CocoKeypoints, Mpii

# --- COCO ---------------------------------------------------------------------------------------

MOUSE = ["snout", "ear_left", "ear_right"]


def person(**changes):
    keypoints = [30, 20, 2, 40, 30, 1, 0, 0, 0]
    box = [20, 10, 40, 30]
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "keypoints": keypoints} | changes


def coco(root, *people, image=None, **changes):
    """A json of people, and the one picture that they are in."""
    add_picture(root / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"} | (image or {})],
        "categories": [{"id": 1, "keypoints": MOUSE}],
        "annotations": list(people) or [person()],
    }
    (root / "people.json").write_text(json.dumps(content | changes))
    return CocoKeypoints(root, root / "people.json", image_size=16)


def whole(root):
    assert len(coco(root)) == 1


def one_left(root):
    """The entry is removed, and another one is left."""
    assert len(coco(root, person(id=2))) == 1


def broken(**changes):
    """One of two people is broken."""
    return lambda root: coco(root, person(**changes), person(id=2))


def a_second_picture(root):
    add_picture(root / "b.png", 1)
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    assert len(coco(root, person(image_id=2), person(id=2), images=images)) == 2


def a_second_category(root):
    categories = [{"id": each, "keypoints": MOUSE} for each in (1, 2)]
    assert len(coco(root, person(category_id=2), person(id=2), categories=categories)) == 2


ENTRY = "Correct it, or remove the entry"
COCO = {
    f"coco, {name}, {how.__name__}": InFolder(broken(**changes), ENTRY, how)
    for name, changes in {
        "keypoints": {"keypoints": [30, 20]},
        "bbox": {"bbox": [20, "left", 40, 30]},
        "area": {"area": "large"},
        "iscrowd": {"iscrowd": "no"},
    }.items()
    for how in (whole, one_left)
}

# --- MPII ---------------------------------------------------------------------------------------


def mpii(root, *changes, boxes=None):
    add_picture(root / "images" / "a.png")
    joints = points(16).tolist()
    entry = {"image": "a.png", "center": [48, 36], "scale": 0.2, "joints": joints}
    entries = [entry | {"joints_vis": [1] * 16} | change for change in changes]
    (root / "annot").mkdir(exist_ok=True)
    (root / "annot" / "valid.json").write_text(json.dumps(entries))
    if boxes is not None:
        from scipy.io import savemat

        savemat(root / "annot" / "gt_valid.mat", {"headboxes_src": boxes})
    return Mpii(root, "valid", image_size=16)


def heads(root, *, people=1, value=9.0):
    boxes = np.full((2, 2, people), value)
    boxes[0] = 1
    sizes = mpii(root, {}, boxes=boxes).head_sizes()
    assert np.isfinite(sizes).all()


CASES = {
    **COCO,
    "coco, corner": InFolder(
        broken(bbox=[60, 40, -40, -30]),
        "Write the size, not the other corner",
        lambda root: coco(root, person(bbox=[20, 10, 40, 30]), person(id=2)),
    ),
    "coco, visibility": InFolder(
        broken(keypoints=[30, 20, 3, 40, 30, 1, 0, 0, 0]), "Correct the visibility", whole
    ),
    "coco, dangling, removed": InFolder(broken(image_id=2), "or remove the annotation", one_left),
    "coco, dangling, added": InFolder(broken(image_id=2), "Add the picture", a_second_picture),
    "coco, category, added": InFolder(broken(category_id=2), "Add the category", a_second_category),
    "coco, category, corrected": InFolder(
        broken(category_id=2), "or correct the annotation", whole
    ),
    "coco, no id": InFolder(broken(id=None), "Number the annotations", whole),
    "coco, no id of a picture": InFolder(
        lambda root: coco(root, image={"id": None}), "Number the pictures", whole
    ),
    "coco, no id of a category": InFolder(
        lambda root: coco(root, categories=[{"keypoints": MOUSE}]), "Number them", whole
    ),
    "coco, no name, added": InFolder(
        lambda root: coco(root, image={"file_name": None}), "Add the name", whole
    ),
    "coco, no name, removed": InFolder(
        lambda root: coco(
            root,
            person(image_id=2),
            person(id=2),
            images=[{"id": 1, "file_name": "a.png"}, {"id": 2}],
        ),
        "or remove the entry",
        one_left,
    ),
    "coco, another picture": InFolder(
        lambda root: coco(root, image={"width": 9, "height": 9}),
        "Restore the picture that was annotated",
        lambda root: coco(root, image={"width": 96, "height": 72}),
    ),
    "coco, outside": InFolder(
        lambda root: coco(root, image={"file_name": "../a.png"}),
        "Put the pictures there, .* and write the names from there",
        whole,
    ),
    "coco, no lists": InFolder(
        lambda root: coco(root, annotations="none"),
        "Convert the annotations to COCO's format",
        whole,
    ),
    "coco, two kinds": InFolder(
        lambda root: coco(root, categories=[{"id": n, "keypoints": [str(n)]} for n in (1, 2)]),
        "Keep the categories of one kind in a file",
        whole,
    ),
    "coco, no names": InFolder(
        lambda root: coco(root, categories=[{"id": 1}]), "but got 0 .*Add their names", whole
    ),
    "coco, nobody": InFolder(
        lambda root: coco(root, person(iscrowd=1)), "Check that it is a file of keypoints", whole
    ),
    "coco, results of a part": InFolder(
        lambda root: coco(root, person(), person(id=2)).results(np.zeros((1, 3, 2))),
        "Pass the `indices` of a part",
        lambda root: coco(root, person(), person(id=2)).results(np.zeros((1, 3, 2)), indices=[1]),
        ValueError,
    ),
    "json, absent": InFolder(
        lambda root: CocoKeypoints(root, root / "absent.json"), "Check the path", whole
    ),
    "json, broken": InFolder(
        lambda root: (
            (root / "people.json").write_text("{"),
            CocoKeypoints(root, root / "people.json"),
        ),
        "Download or export it again",
        whole,
    ),
    "mpii, nobody": InFolder(
        mpii, "must be a list of people, but got none. Download it again", lambda r: mpii(r, {})
    ),
    "mpii, no joint": InFolder(
        lambda root: mpii(root, {"joints_vis": [0] * 16}),
        "must annotate a joint of at least one person, but got none. Download it again",
        lambda root: mpii(root, {}),
    ),
    "mpii, entry": InFolder(
        lambda root: mpii(root, {"scale": "large"}, {}), ENTRY, lambda root: mpii(root, {})
    ),
    "mpii, no heads": InFolder(
        lambda root: mpii(root, {}).head_sizes(), "put it next to that file", heads
    ),
    "mpii, other heads": InFolder(
        lambda root: heads(root, people=2), "Download both from the same place", heads
    ),
    "mpii, broken heads": InFolder(
        lambda root: heads(root, value=np.nan), "Download it again", heads
    ),
}
