"""Readers of annotated pictures; each gives `LandmarkSample`s to a PyTorch `DataLoader`."""

from advaug.datasets.decoding import Decoding
from advaug.datasets.readers.coco_keypoints import CocoKeypoints
from advaug.datasets.readers.faces_300w import Faces300W
from advaug.datasets.readers.mpii import Mpii
from advaug.datasets.readers.pts import PtsPoints, read_pts, write_pts
from advaug.datasets.readers.pts_folder import PtsFolder
from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic.faces.dataset import SyntheticFaces
from advaug.datasets.synthetic.people.dataset import SyntheticPeople

__all__ = [
    "CocoKeypoints",
    "Decoding",
    "Faces300W",
    "LandmarkSample",
    "Mpii",
    "PtsFolder",
    "PtsPoints",
    "SyntheticFaces",
    "SyntheticPeople",
    "read_pts",
    "write_pts",
]
