"""Landmark schemes: names, mirrors, regions, eye corners, and the way from 98 to 68."""

import pytest
from small_sets import points

from advaug.schemes import (
    FACE_21,
    FACE_29,
    FACE_68,
    FACE_98,
    FACE_98_TO_68,
    SCHEMES,
    scheme_from_names,
)

FACES = (FACE_68, FACE_98, FACE_29, FACE_21)
by_name = pytest.mark.parametrize("scheme", FACES, ids=lambda scheme: scheme.name)

# As published beside each data set, 0-based.
PERMUTATION_98 = [
    *range(32, -1, -1),
    *(46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39, 38),
    *(51, 52, 53, 54, 59, 58, 57, 56, 55),
    *(72, 71, 70, 69, 68, 75, 74, 73, 64, 63, 62, 61, 60, 67, 66, 65),
    *(82, 81, 80, 79, 78, 77, 76, 87, 86, 85, 84, 83),
    *(92, 91, 90, 89, 88, 95, 94, 93, 97, 96),
]
PERMUTATION_29 = [
    *(1, 0, 3, 2, 6, 7, 4, 5, 9, 8, 11, 10, 14, 15, 12, 13, 17, 16, 19, 18),
    *(20, 21, 23, 22, 24, 25, 26, 27, 28),
]
PERMUTATION_21 = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 16, 15, 14, 13, 12, 19, 18, 17, 20]


@pytest.mark.parametrize(
    ("scheme", "published"),
    [(FACE_98, PERMUTATION_98), (FACE_29, PERMUTATION_29), (FACE_21, PERMUTATION_21)],
    ids=["98", "29", "21"],
)
def test_permutations_are_the_published_ones(scheme, published):
    assert list(scheme.flip_permutation) == published


@by_name
def test_a_mirror_swaps_just_the_names_that_differ_in_their_side(scheme):
    assert len(set(scheme.names)) == len(scheme.names) == scheme.num_landmarks
    assert scheme_from_names(scheme.names).flip_permutation == scheme.flip_permutation


@by_name
def test_every_landmark_is_in_one_region_and_a_mirror_swaps_regions(scheme):
    members = sorted(index for region in scheme.regions.values() for index in region)
    assert members == list(range(scheme.num_landmarks))
    for name, region in scheme.regions.items():
        sides = {"left": "right", "right": "left"}
        side, _, part = name.partition("_")
        partner = f"{sides[side]}_{part}" if side in sides else name
        assert {scheme.flip_permutation[index] for index in region} == set(scheme.regions[partner])


@by_name
def test_eye_corners_and_pupils_are_those_of_the_names_and_swap(scheme):
    right, left = scheme.eye_corners
    assert (scheme.names[right], scheme.names[left]) == ("right_eye_outer", "left_eye_outer")
    assert scheme.flip_permutation[right] == left
    one, other = scheme.pupils
    assert {scheme.flip_permutation[index] for index in one} == set(other)
    assert set(one) <= set(scheme.regions["right_eye"])


@by_name
def test_schemes_are_found_by_name_and_can_be_keys(scheme):
    assert SCHEMES[scheme.name] is scheme
    assert {scheme: 1}[scheme] == 1


def test_the_way_from_98_to_68_keeps_what_names_say():
    assert len(set(FACE_98_TO_68)) == 68
    there = [FACE_98.names[index] for index in FACE_98_TO_68]
    lids_and_jaw = ("lid", "jaw", "brow")  # which are counted differently
    for ours, theirs in zip(FACE_68.names, there, strict=True):
        assert ours == theirs or any(part in ours and part in theirs for part in lids_and_jaw)
    # Mirroring and picking can change places.
    for index, partner in enumerate(FACE_68.flip_permutation):
        assert FACE_98.flip_permutation[FACE_98_TO_68[index]] == FACE_98_TO_68[partner]
    assert points(98)[list(FACE_98_TO_68)].shape == (68, 2)
