"""Readers of annotated pictures; each gives `LandmarkSample`s to a PyTorch `DataLoader`."""

from advaug.datasets.coco_keypoints import CocoKeypoints
from advaug.datasets.faces_300w import Faces300W
from advaug.datasets.mpii import Mpii
from advaug.datasets.pts import read_pts, write_pts
from advaug.datasets.pts_folder import PtsFolder
from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic_faces import SyntheticFaces
from advaug.datasets.synthetic_people import SyntheticPeople

__all__ = [
    "CocoKeypoints",
    "Faces300W",
    "LandmarkSample",
    "Mpii",
    "PtsFolder",
    "SyntheticFaces",
    "SyntheticPeople",
    "read_pts",
    "write_pts",
]
