"""`advaug preview`: the gallery of an attack on one's own pictures."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from advaug.cli.batch import add_pixels, load_batch, pixels_of, with_flags
from advaug.cli.output import say
from advaug.cli.reading import add_decoding, add_skip_broken, decoding_of

__all__ = ["add_preview"]


def add_preview(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug preview`."""
    parser = commands.add_parser(
        "preview",
        help="draw how your pictures would be attacked",
        description="Draw pictures, structure map, mask, perturbation and the adversarial pictures "
        "as a detector would see them. An untrained attacker hardly paints: give the state of a "
        "trained one.",
    )
    add = parser.add_argument
    add(
        "source",
        metavar="SRC",
        help="folder of pictures with .pts files, or MODULE:BATCH as in `advaug check`",
    )
    add("output", metavar="PNG", type=Path, help="file to write")
    add("--state", type=Path, metavar="FILE", help="state_dict() of a trained adversary")
    add("--count", type=int, default=8, help="pictures (default: 8)")
    add("--image-size", type=int, default=256, help="side of a folder's pictures (default: 256)")
    add("--num-landmarks", type=int, default=68, help="in a .pts file (default: 68)")
    add_decoding(parser)
    add_skip_broken(parser)
    add("--seed", type=int, default=0, help="of what is random (default: 0)")
    add_pixels(parser)
    parser.set_defaults(run=_preview)


def _preview(arguments: argparse.Namespace) -> None:
    from advaug import SampleAdaptiveAdversary
    from advaug.base.checks import check_at_least_one
    from advaug.base.files import require_writable
    from advaug.evaluation.report import plot_gallery, require_matplotlib

    require_matplotlib()  # before anything long
    require_writable("PNG", arguments.output.parent)
    check_at_least_one(count=arguments.count, image_size=arguments.image_size)
    images, target = _pictures(arguments)
    channels = images.shape[1] if images.ndim == 4 else 3
    with with_flags():
        adversary = SampleAdaptiveAdversary(
            channels=channels, pixels=pixels_of(arguments), seed=arguments.seed
        )
    if arguments.state is not None:
        _resume(adversary, arguments.state)
    adversary.to(images.device)
    with with_flags():
        attack = adversary.preview(images, target, normalized=arguments.normalized)
    pixels = adversary.pixels
    unit, seen = (pixels.to_unit(given)[:, :3] for given in (images, attack.images))
    shown = replace(attack, images=seen, perturbation=attack.perturbation[:, :3])
    plot_gallery(unit, shown, arguments.output, count=arguments.count)
    if arguments.state is None:
        say("The attacker is not trained: what changes is the random appearance. See --state.")
    say(
        f"{min(arguments.count, len(images))} pictures in {arguments.output}: mean SSIM "
        f"{float(attack.ssim.mean()):.3f}, β {float(attack.beta.mean()):.3f}"
    )


def _pictures(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Pictures and target of a folder, or of a user's own code."""
    source = arguments.source
    if ":" in source and not Path(source).exists():
        return load_batch(source)
    from torch.utils.data import default_collate

    from advaug.datasets.readers.pts_folder import PtsFolder

    folder = PtsFolder(
        source,
        image_size=arguments.image_size,
        num_landmarks=arguments.num_landmarks,
        decoding=decoding_of(arguments),
        skip_broken=arguments.skip_broken,
    )
    count = min(arguments.count, len(folder))
    spread = [place * len(folder) // count for place in range(count)]
    images, landmarks, visible = default_collate([tuple(folder[place]) for place in spread])
    return images, (landmarks, visible)


def _resume(adversary: Any, path: Path) -> None:  # noqa: ANN401 # a SampleAdaptiveAdversary
    """Load a state, and say what it must be where it is none."""
    import pickle

    import torch

    from advaug.base.files import check_uncompressed

    try:
        check_uncompressed(path)
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        msg = (
            f"`--state` must be a file of torch.save(adversary.state_dict(), ...), but {path} "
            "cannot be read as one. Save only the adversary's state."
        )
        raise ValueError(msg) from error
    try:
        adversary.load_state_dict(state)
    except (ValueError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        fact = str(error).split(". ")[0]  # what follows is for those who build the adversary
        msg = (
            f"`--state` must be the state_dict() of an adversary with the default networks, but "
            f"{path} is another's: {fact}. Make one with `SampleAdaptiveAdversary(channels="
            f"{adversary.attacker.channels})`, or leave `--state` out."
        )
        raise ValueError(msg) from error
