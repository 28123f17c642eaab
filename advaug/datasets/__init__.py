"""Readers of annotated pictures; each gives `LandmarkSample`s to a PyTorch `DataLoader`."""

from advaug.datasets.decoding import Decoding
from advaug.datasets.readers.aflw2000 import Aflw2000
from advaug.datasets.readers.coco_keypoints import CocoKeypoints
from advaug.datasets.readers.cofw import Cofw, Cofw68
from advaug.datasets.readers.faces_300w import Faces300W
from advaug.datasets.readers.lp_300w import Faces300WLP
from advaug.datasets.readers.merl_rav import MerlRav
from advaug.datasets.readers.mpii import Mpii
from advaug.datasets.readers.pts import PtsPoints, read_pts, write_pts
from advaug.datasets.readers.pts_folder import PtsFolder
from advaug.datasets.readers.videos_300vw import Videos300VW
from advaug.datasets.readers.wflw import Wflw
from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic.faces.dataset import SyntheticFaces
from advaug.datasets.synthetic.people.dataset import SyntheticPeople

__all__ = [
    "Aflw2000",
    "CocoKeypoints",
    "Cofw",
    "Cofw68",
    "Decoding",
    "Faces300W",
    "Faces300WLP",
    "LandmarkSample",
    "MerlRav",
    "Mpii",
    "PtsFolder",
    "PtsPoints",
    "SyntheticFaces",
    "SyntheticPeople",
    "Videos300VW",
    "Wflw",
    "read_pts",
    "write_pts",
]
