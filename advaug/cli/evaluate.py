"""`advaug evaluate`: measure a detector on a set of pictures and report on it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advaug.cli.output import say
from advaug.cli.reading import add_decoding, add_skip_broken, decoding_of

if TYPE_CHECKING:
    from advaug.evaluation.loaded import LoadedDetector
    from advaug.evaluation.planning import Plan

__all__ = ["add_evaluate"]

IMAGE_SIZE = 256
MOST_WORKERS = 16
IMAGENET = ("0.485,0.456,0.406", "0.229,0.224,0.225")


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `advaug evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a detector on annotated pictures",
        description="Measure a detector on a set of annotated pictures: NME, failure rate, AUC and "
        "CED of every subset, on clean, masked and corrupted pictures, by landmark and region. "
        "Writes results.json, results.csv, landmarks.csv, samples.csv and report.html, one file "
        "that needs no network. Can be interrupted and run again. With another --normalizer, "
        "--threshold or --subsets it scores the landmarks found before again.",
    )
    _add_detector(parser)
    _add_data(parser)
    _add_measures(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of the results, new or resumed")
    add(
        "--worst", type=int, default=12, help="how many of the worst pictures to show (default: 12)"
    )
    add(
        "--device",
        default="auto",
        help='such as "cpu" or "cuda" (default: cuda if available)',
    )
    add("--batch-size", type=int, default=32, help="pictures at a time (default: 32)")
    add("--workers", type=int, help="processes that read pictures (default: one a core, up to 16)")
    parser.set_defaults(run=_evaluate)


def _add_detector(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument_group("the detector, one of").add_mutually_exclusive_group(
        required=True
    )
    one.add_argument("--weights", metavar="FILE", help="a detector of this library, as saved by it")
    one.add_argument(
        "--detector",
        metavar="MODULE:FUNCTION",
        help='any detector: a function without arguments that returns (module, "heatmaps"), '
        '(module, "coordinates") or (module, decode), with a PixelSpec last if needed',
    )
    one.add_argument("--onnx", metavar="FILE", help="an exported detector, run by onnxruntime")
    parser.add_argument("--mean", metavar="R,G,B", help=f"of --onnx, such as {IMAGENET[0]}")
    parser.add_argument("--std", metavar="R,G,B", help=f"of --onnx, such as {IMAGENET[1]}")


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the pictures")
    group.add_argument(
        "--data",
        required=True,
        metavar="NAME",
        help="synthetic, pts, 300w, ...; an unknown name lists all",
    )
    group.add_argument("--root", type=Path, help="their folder; synthetic needs none")
    group.add_argument("--subsets", nargs="+", metavar="NAME", help="some (default: all)")
    group.add_argument(
        "--image-size", type=int, help=f"side in pixels (default: the detector's, or {IMAGE_SIZE})"
    )
    group.add_argument(
        "--count", type=int, default=300, help="pictures of each synthetic split (default: 300)"
    )
    add_decoding(group)
    add_skip_broken(group)


def _add_measures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the measures")
    group.add_argument(
        "--conditions",
        nargs="+",
        default=["clean"],
        metavar="NAME",
        help="clean, masked, occluded, landmark-c (default: clean)",
    )
    group.add_argument(
        "--group", default="akin", help="of Landmark-C's kinds: akin or unlike (default: akin)"
    )
    group.add_argument("--kinds", nargs="+", metavar="KIND", help="of that group (default: all)")
    group.add_argument(
        "--severities", nargs="+", type=int, metavar="N", help="of Landmark-C (default: 1 to 5)"
    )
    group.add_argument("--flip", action="store_true", help="average over the mirrored picture")
    group.add_argument(
        "--normalizer",
        help="inter_ocular, inter_pupil, box, diagonal, or two landmarks such as 36,45 "
        "(default: the usual one for these pictures, mostly inter_ocular)",
    )
    group.add_argument(
        "--threshold", type=float, default=0.1, help="of FR, AUC and CED (default: 0.1)"
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    from advaug.base.checks import check_not_negative
    from advaug.evaluation.html import require_report, write_html
    from advaug.evaluation.measuring import measure
    from advaug.evaluation.planning import check_plan
    from advaug.evaluation.sets import (
        Request,
        check_request,
        choose_subsets,
        open_set,
        require_set,
    )
    from advaug.evaluation.tables import format_summary, write_tables

    require_report()  # before anything long
    check_not_negative(worst=arguments.worst)
    require_set(arguments.data, arguments.root)
    device = _device(arguments.device)
    detector = _load(arguments, device)
    plan = _plan(arguments, detector, device)
    num_landmarks = check_plan(plan, detector, arguments.output)
    request = Request(
        arguments.root,
        plan.image_size,
        num_landmarks,
        count=arguments.count,
        skip_broken=arguments.skip_broken,
        decoding=decoding_of(arguments),
    )
    check_request(arguments.data, request, arguments.subsets, detector=detector.name)
    found_set = open_set(arguments.data, request)
    subsets = choose_subsets(found_set, arguments.subsets)
    evaluation = measure(detector, found_set, subsets, plan, arguments.output, say=say)
    write_tables(evaluation, arguments.output)
    write_html(evaluation, arguments.output / "report.html", worst=arguments.worst)
    say(format_summary(evaluation))
    say(f"\neverything is in {arguments.output}; open {arguments.output / 'report.html'}")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        fact = str(error).splitlines()[0].rstrip(".")
        msg = (
            f"`--device` must be one that PyTorch has here, but got {name}: {fact}. Leave it out, "
            "or choose cpu."
        )
        raise ValueError(msg) from error
    return name


def _load(arguments: argparse.Namespace, device: str) -> "LoadedDetector":
    from advaug.evaluation.exported import load_onnx
    from advaug.evaluation.loaded import load_function, load_weights
    from advaug.pixels import PixelSpec

    mean, std = _channels("--mean", arguments.mean), _channels("--std", arguments.std)
    if arguments.onnx is not None:
        return load_onnx(arguments.onnx, device, pixels=PixelSpec(mean, std))
    if mean or std:
        msg = (
            "`--mean` and `--std` must go with `--onnx`, but got another detector. Leave them out: "
            "it already knows how to normalise its pictures."
        )
        raise ValueError(msg)
    if arguments.weights is not None:
        return load_weights(arguments.weights, device)
    return load_function(arguments.detector, device)


def _plan(arguments: argparse.Namespace, detector: "LoadedDetector", device: str) -> "Plan":
    from advaug.augment.corruptions import SEVERITIES
    from advaug.evaluation.planning import Plan
    from advaug.evaluation.sets import choose_normalizer
    from advaug.evaluation.summary import Protocol

    return Plan(
        Protocol(
            choose_normalizer(arguments.data, _normalizer(arguments.normalizer)),
            arguments.threshold,
        ),
        conditions=tuple(arguments.conditions),
        group=arguments.group,
        kinds=None if arguments.kinds is None else tuple(arguments.kinds),
        severities=tuple(arguments.severities or SEVERITIES),
        flip=arguments.flip,
        image_size=arguments.image_size or detector.image_size or IMAGE_SIZE,
        batch_size=arguments.batch_size,
        workers=_cores() if arguments.workers is None else arguments.workers,
        device=device,
    )


def _cores() -> int:
    """How many processes can read at once: a container may have fewer cores than its host."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(len(affinity(0)) if affinity else os.cpu_count() or 1, MOST_WORKERS)


def _channels(option: str, words: str | None) -> tuple[float, ...]:
    """Three numbers, one per channel; none if the option was not given."""
    if words is None:
        return ()
    try:
        numbers = tuple(float(word) for word in words.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        msg = (
            f"`{option}` must be three numbers such as {IMAGENET[0]}, but got {words!r}. Separate "
            "them by commas, without spaces."
        )
        raise ValueError(msg)
    return numbers


def _normalizer(words: str | None) -> Any:  # noqa: ANN401 # checked where it is used
    """A name, two landmarks, or None."""
    if words is None:
        return None
    first, comma, second = words.partition(",")
    if comma and first.strip().isdigit() and second.strip().isdigit():
        return int(first), int(second)
    return words
