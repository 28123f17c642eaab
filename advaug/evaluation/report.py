"""Tables and pictures of a run's results. Requires the extra `examples` (matplotlib)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advaug.adversary import AdversarialBatch
from advaug.base.files import whole_file
from advaug.evaluation.evaluate import Errors
from advaug.evaluation.metrics import ced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["format_table", "plot_ced", "plot_curves", "plot_gallery", "require_matplotlib"]

PERTURBATION_GAIN = 2.0  # a perturbation of a quarter of the range shows as black or white
LABELS = {
    "nme": "NME",
    "failure_rate": "FR@0.1",
    "auc": "AUC@0.1",
    "nme_visible": "NME visible",
    "nme_occluded": "NME occluded",
}
CURVES = {
    "loss": "training loss",
    "error": "detector's error on I_adv",
    "beta": "β",
    "ssim": "SSIM of M * I",
    "semantic_ssim": "SSIM of the semantic regions",
    "rms_inside": "perturbation RMS, semantic regions",
    "rms_outside": "perturbation RMS, elsewhere",
    "reconstruction_weight": "weight of L_R",
    "discriminator_accuracy": "discriminator's accuracy",
}


def format_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A Markdown table: one row per run, with its measures for each condition.

    Args:
        results: Run, condition, and measures such as "nme" as fractions, the same ones everywhere;
            shown in percent.
    """
    conditions = next(iter(results.values()))
    measures = list(next(iter(conditions.values())))
    header = ["run"] + [
        f"{name} {LABELS.get(key, key)} %" for name in conditions for key in measures
    ]
    rows = [
        [run] + [f"{100 * found[name][key]:.2f}" for name in conditions for key in measures]
        for run, found in results.items()
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [_line(header, widths), _line(["-" * width for width in widths], widths)]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        + " |"
    )


def plot_ced(results: Mapping[str, Mapping[str, Errors]], path: Path) -> None:
    """Cumulative error distributions, one panel per condition, one curve per run."""
    conditions = list(next(iter(results.values())))
    figure = _figure((4 * len(conditions), 3.6))
    limit = 0.25
    thresholds = torch.linspace(0, limit, 251)
    for axes, name in zip(
        figure.subplots(1, len(conditions), squeeze=False)[0], conditions, strict=True
    ):
        for run, found in results.items():
            errors = found[name]
            mean = errors.values.nanmean().item()
            axes.plot(
                100 * thresholds,
                100 * ced(errors.values, thresholds),
                label=f"{run}: {100 * mean:.2f} %",
            )
        axes.set(
            title=name, xlabel="NME %", ylabel="pictures %", xlim=(0, 100 * limit), ylim=(0, 100)
        )
        axes.grid(alpha=0.3)
        axes.legend(title="mean NME", loc="lower right")
    _save(figure, path)


def plot_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Training curves, one panel per quantity, one curve per run; nothing without points."""
    names = [
        n for n in CURVES if any(n in point for points in histories.values() for point in points)
    ]
    if not names:
        return  # a run too short for a single point
    columns = 3
    rows = -(-len(names) // columns)
    figure = _figure((4.2 * columns, 2.6 * rows))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(names) :]:
        axes.axis("off")
    for axes, name in zip(panels, names, strict=False):
        for number, (run, points) in enumerate(histories.items()):
            shown = [(point["step"], point[name]) for point in points if name in point]
            if shown:
                axes.plot(*zip(*shown, strict=True), f"C{number}", label=run, linewidth=1)
        if name in ("loss", "error", "reconstruction_weight"):
            axes.set_yscale("log")
        axes.set(title=CURVES[name], xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    _save(figure, path)


def plot_gallery(images: Tensor, attack: AdversarialBatch, path: Path, *, count: int = 8) -> None:
    """Picture, structure map, mask, perturbation, and I_adv before and in the appearance.

    Args:
        images: The original pictures, `(B, 3, H, W)` in `[0, 1]`.
        attack: Their attack, for a detector that expects pictures in `[0, 1]`.
        path: A PNG file.
        count: How many pictures to show.
    """
    count = min(count, len(images))
    rows = {
        "picture I": images,
        "structure map S": attack.structure,
        "semantic mask M": attack.mask,
        f"perturbation × {PERTURBATION_GAIN:g}": 0.5 + PERTURBATION_GAIN * attack.perturbation,
        "adversarial I_adv": images + attack.perturbation,
        "as the detector sees it": attack.images,
    }
    figure = _figure((1.7 * count + 0.5, 1.75 * len(rows) + 0.3))
    panels = figure.subplots(len(rows), count, squeeze=False)
    for axes_row, (title, row) in zip(panels, rows.items(), strict=True):
        for axes, picture in zip(axes_row, row, strict=False):
            shown = picture.detach().float().expand(3, -1, -1).clamp(0, 1).permute(1, 2, 0)
            axes.imshow(shown.cpu().numpy())
            axes.set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(title, fontsize="small")
    for axes, similarity, weight in zip(panels[-1], attack.ssim, attack.beta, strict=False):
        axes.set_xlabel(f"SSIM {similarity:.2f}  β {weight:.2f}", fontsize="small")
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    """Write a PNG that gets its name only when it is complete."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def require_matplotlib() -> "type[Figure]":
    """Return matplotlib's class of figures.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = (
            f"matplotlib must be installed to draw, but got: {error}. Run "
            '`pip install "advaug[examples]"`.'
        )
        raise ImportError(message) from error
    return Figure


def _figure(size: tuple[float, float]) -> "Figure":
    return require_matplotlib()(figsize=size, layout="constrained")
