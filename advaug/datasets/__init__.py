"""Readers of annotated pictures; each gives `LandmarkSample`s to a PyTorch `DataLoader`."""

from advaug.datasets.faces_300w import Faces300W
from advaug.datasets.pts import read_pts, write_pts
from advaug.datasets.pts_folder import PtsFolder
from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic_faces import SyntheticFaces

__all__ = [
    "Faces300W",
    "LandmarkSample",
    "PtsFolder",
    "SyntheticFaces",
    "read_pts",
    "write_pts",
]
