"""Eq. 1 to 9 of the paper in NumPy float64, written from its text as plain loops.

Slow on purpose, and sharing no code or idea with `advaug.functional`. What the paper leaves open
follows design.md: sums over pixels, means over landmarks, patches and, in Eq. 6, over pixels and
channels; SSIM after Wang et al. 2004 with valid 11 x 11 windows, sigma 1.5, data range 1.
"""

import math

import numpy as np


def heatmap_error(heatmaps, target, visible=None):
    """Eq. 1: mean over the landmarks of the squared norm of the difference."""
    errors = []
    for i in range(len(heatmaps)):
        norms = []
        for n in range(len(heatmaps[i])):
            if visible is None or visible[i][n]:
                total = 0.0
                for h, t in zip(heatmaps[i][n].ravel(), target[i][n].ravel(), strict=True):
                    total += (float(h) - float(t)) ** 2
                norms.append(total)
        errors.append(sum(norms) / len(norms) if norms else 0.0)
    return np.array(errors)


def structure_map(heatmaps):
    """S of Eq. 2: all landmark heatmaps in one map, by the maximum."""
    batch, count, height, width = heatmaps.shape
    maps = np.empty((batch, 1, height, width))
    for i in range(batch):
        for y in range(height):
            for x in range(width):
                maps[i, 0, y, x] = max(float(heatmaps[i, n, y, x]) for n in range(count))
    return maps


def feedback_loss(error, relaxation=0.1):
    """Eq. 3."""
    return np.array([1 / (float(e) + relaxation) for e in error])


def probability(logit):
    """D in Eq. 4 and 5, from a logit."""
    return 1 / (1 + math.exp(-float(logit)))


def attacker_adversarial_loss(fake_logits, form):
    """Eq. 4, log(1 - D), or the non-saturating -log D; mean over the patches."""
    losses = []
    for logits in fake_logits:
        values = [probability(logit) for logit in logits.ravel()]
        terms = [math.log(1 - p) if form == "minimax" else -math.log(p) for p in values]
        losses.append(sum(terms) / len(terms))
    return np.array(losses)


def discriminator_loss(real_logits, fake_logits):
    """Eq. 5, which the paper maximises, with its sign turned; mean over the patches."""
    losses = []
    for real, fake in zip(real_logits, fake_logits, strict=True):
        gain = np.mean([math.log(probability(logit)) for logit in real.ravel()])
        gain += np.mean([math.log(1 - probability(logit)) for logit in fake.ravel()])
        losses.append(-gain)
    return np.array(losses)


def semantic_mask(structure, threshold=0.25, background=0.1):
    """M: 1 in the neighbourhoods of landmarks, 0.1 elsewhere."""
    mask = np.empty(structure.shape)
    for place in np.ndindex(*structure.shape):
        mask[place] = 1.0 if float(structure[place]) >= threshold else background
    return mask


def semantic_reconstruction_loss(images, adversarial, mask):
    """Eq. 6, as a mean over pixels and channels."""
    losses = []
    for i in range(len(images)):
        terms = []
        for c, y, x in np.ndindex(*images[i].shape):
            m = float(mask[i, 0, y, x])
            terms.append(abs(m * float(images[i, c, y, x]) - m * float(adversarial[i, c, y, x])))
        losses.append(sum(terms) / len(terms))
    return np.array(losses)


def gaussian_window():
    """11 x 11, sigma 1.5, adding up to 1."""
    window = np.empty((11, 11))
    for j in range(11):
        for k in range(11):
            window[j, k] = math.exp(-((j - 5) ** 2 + (k - 5) ** 2) / (2 * 1.5**2))
    return window / window.sum()


def ssim_of_window(x, y, window):
    """One window of Wang et al. 2004, Eq. 13, with K1 = .01, K2 = .03, L = 1."""
    c1, c2 = 0.01**2, 0.03**2
    mu_x = mu_y = 0.0
    for j in range(11):
        for k in range(11):
            mu_x += window[j, k] * x[j, k]
            mu_y += window[j, k] * y[j, k]
    var_x = var_y = covariance = 0.0
    for j in range(11):
        for k in range(11):
            var_x += window[j, k] * (x[j, k] - mu_x) ** 2
            var_y += window[j, k] * (y[j, k] - mu_y) ** 2
            covariance += window[j, k] * (x[j, k] - mu_x) * (y[j, k] - mu_y)
    above = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
    return above / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))


def ssim_map(images, adversarial):
    """SSIM of every window that lies in the picture: `(B, C, H - 10, W - 10)`."""
    images, adversarial = images.astype(np.float64), adversarial.astype(np.float64)
    batch, channels, height, width = images.shape
    window = gaussian_window()
    result = np.empty((batch, channels, height - 10, width - 10))
    for i, c, y, x in np.ndindex(*result.shape):
        here = (i, c, slice(y, y + 11), slice(x, x + 11))
        result[i, c, y, x] = ssim_of_window(images[here], adversarial[here], window)
    return result


def ssim(images, adversarial):
    """SSIM of Eq. 9: mean over windows and channels."""
    return ssim_map(images, adversarial).mean(axis=(1, 2, 3))


def beta(similarity):
    """Outer part of Eq. 9; the logarithm of nothing or less counts as minus infinity."""
    return np.array([max(0.0, math.log(s + 0.5)) if s + 0.5 > 0 else 0.0 for s in similarity])


def adaptive_beta(images, adversarial, mask):
    """Eq. 9."""
    images, adversarial = images.astype(np.float64), adversarial.astype(np.float64)
    mask = mask.astype(np.float64)
    return beta(ssim(mask * images, mask * adversarial))


def semantic_ssim(images, adversarial, mask):
    """Mean of the map of Eq. 9 over windows centred where M is 1; 1 where there are none."""
    masked = mask.astype(np.float64)
    values = ssim_map(masked * images.astype(np.float64), masked * adversarial.astype(np.float64))
    result = []
    for i in range(len(values)):
        inside = [
            values[i, c, y, x]
            for c, y, x in np.ndindex(*values[i].shape)
            if mask[i, 0, y + 5, x + 5] >= 1
        ]
        result.append(float(np.mean(inside)) if inside else 1.0)
    return np.array(result)


def mean_distance(points, landmarks, visible=None):
    """Mean Euclidean distance over the visible landmarks, `(B,)`; 0 where none is."""
    result = []
    for i in range(len(points)):
        distances = [
            math.hypot(*(float(p) - float(q) for p, q in zip(points[i][n], mark, strict=True)))
            for n, mark in enumerate(landmarks[i])
            if visible is None or visible[i][n]
        ]
        result.append(sum(distances) / len(distances) if distances else 0.0)
    return np.array(result)


def box_size(landmarks, visible=None):
    """Square root of the area of the box of the visible landmarks, `(B,)`."""
    result = []
    for i in range(len(landmarks)):
        shown = [mark for n, mark in enumerate(landmarks[i]) if visible is None or visible[i][n]]
        width = max(m[0] for m in shown) - min(m[0] for m in shown)
        height = max(m[1] for m in shown) - min(m[1] for m in shown)
        result.append(math.sqrt(float(width) * float(height)))
    return np.array(result)
