"""The skeleton of a synthetic person: lengths of bones, angles of joints, and where joints are.

The body's axes are x to the person's left, y down and z forward, with the origin between the hips
and the metre as unit. Seen from the front, x is to the right of the picture and z towards the
viewer.
"""

import numpy as np

from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["Joints", "sample_body"]

Joints = dict[str, Floats]
"""Points `(3,)` by name: COCO's 17 and what is drawn beside them."""

SIDES = (("left", 1.0), ("right", -1.0))
# Angles in degrees, mean and spread: thigh forward, thigh outward, knee, trunk forward, arm
# forward, arm outward, elbow. Both sides are drawn separately.
_POSTURES = {
    "stand": ((2, 8), (4, 4), (6, 7), (2, 4), (4, 16), (12, 10), (18, 18)),
    "walk": ((0, 8), (2, 3), (22, 16), (5, 4), (0, 10), (9, 6), (28, 18)),
    "sit": ((82, 12), (10, 9), (80, 18), (6, 10), (30, 25), (14, 10), (50, 28)),
    "reach": ((4, 14), (10, 9), (12, 14), (4, 9), (25, 50), (105, 38), (28, 28)),
    "crouch": ((95, 18), (14, 9), (112, 18), (32, 14), (48, 28), (18, 14), (38, 28)),
    "leap": ((28, 34), (18, 13), (48, 30), (10, 14), (40, 60), (60, 40), (45, 32)),
}
_SHARES = np.array([0.28, 0.2, 0.14, 0.18, 0.08, 0.12])
_LEGS = ("hip", "knee", "ankle", "toe")  # what stays when the trunk leans
_STRIDE = 24.0  # degrees, of legs and arms back and forth


def sample_body(rng: np.random.Generator) -> Joints:
    """Draw a person: proportions, posture, and the direction the person faces."""
    name = list(_POSTURES)[int(rng.choice(len(_SHARES), p=_SHARES))]
    mean, spread = np.array(_POSTURES[name]).T
    angles = rng.normal(mean, spread, (2, 7))
    if name == "walk":
        angles[:, 0] += np.array([1, -1]) * _STRIDE * rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        angles[:, 4] -= (angles[:, 0] - angles[:, 0].mean()) * rng.uniform(0.6, 1.2)
    lean = angles[:, 3].mean()
    angles[:, [2, 6]] = np.clip(angles[:, [2, 6]], 0, 140)  # knees and elbows bend one way
    joints = _upright(np.deg2rad(angles), rng)
    tilt = _turn("x", -np.deg2rad(lean)) @ _turn("z", rng.normal(0, 0.06))
    view = _view(rng)
    return {key: view @ (at if key.endswith(_LEGS) else tilt @ at) for key, at in joints.items()}


def _upright(angles: Floats, rng: np.random.Generator) -> Joints:
    """Joints with the trunk upright, from angles `(2, 7)` in radians."""
    stature = rng.normal(1.0, 0.05)
    broad, wide, long = rng.normal([0.19, 0.095, 0.49], [0.018, 0.012, 0.025]) * stature
    thigh, shin, arm, forearm = rng.normal([0.44, 0.42, 0.3, 0.26], 0.018) * stature
    joints: Joints = {}
    for (side, sign), angle in zip(SIDES, angles, strict=True):
        forward, outward, knee, _, swing, spread, elbow = angle
        hip = np.array([sign * wide, 0.0, 0.0])
        shoulder = np.array([sign * broad, -long, 0.0])
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = hip + thigh * _direction(forward, sign * outward)
        shank = _direction(forward - knee, sign * outward)
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + shin * shank
        toes = np.cross(shank, [1.0, 0.0, 0.0])
        joints[f"{side}_toe"] = joints[f"{side}_ankle"] + 0.17 * toes + 0.05 * shank
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"] = shoulder + arm * _direction(swing, sign * spread)
        reach = _direction(swing + elbow, sign * spread * rng.uniform(0.2, 1.1))
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + forearm * reach
        joints[f"{side}_hand"] = joints[f"{side}_wrist"] + 0.09 * reach
    neck = np.array([0.0, -long - 0.02, 0.0])
    return joints | {"neck": neck} | _head(neck, rng)


def _head(neck: Floats, rng: np.random.Generator) -> Joints:
    """The head, turned and nodded independently."""
    nod = _turn("y", rng.normal(0, 0.35)) @ _turn("x", rng.normal(0, 0.18))
    offsets = {
        "head": (0.0, 0.0, 0.0),
        "crown": (0.0, -0.045, -0.03),
        "chin": (0.0, 0.075, 0.035),
        "nose": (0.0, 0.02, 0.112),
        "left_eye": (0.034, -0.015, 0.092),
        "right_eye": (-0.034, -0.015, 0.092),
        "left_ear": (0.082, 0.008, 0.0),
        "right_ear": (-0.082, 0.008, 0.0),
    }
    centre = neck + nod @ np.array([0.0, -0.17, 0.02])
    return {name: centre + nod @ np.array(offset) for name, offset in offsets.items()}


def _direction(forward: float, outward: float) -> Floats:
    """Direction of a bone that hangs down and is swung forward and outward, as a unit vector."""
    return np.array(
        [np.sin(outward), np.cos(outward) * np.cos(forward), np.cos(outward) * np.sin(forward)]
    )


def _view(rng: np.random.Generator) -> Floats:
    """From the body's axes to the camera's: from any side, mostly the front, mostly upright."""
    yaw = rng.normal(0, 0.7) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    roll = rng.normal(0, 0.1) if rng.random() < 0.9 else rng.normal(0, 0.9)
    return _turn("z", roll) @ _turn("x", rng.normal(0.05, 0.14)) @ _turn("y", yaw)


def _turn(axis: str, angle: float) -> Floats:
    """Rotation matrix about an axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix
