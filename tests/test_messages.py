"""Every message of the core names a fix, and the fix works when it is followed literally.

Each case of the tables in `messages/` gives the message, what it says to do, and the call that does
so. A last test looks at all `raise` statements of the core: none may be left without a case.
"""

import ast
from pathlib import Path

import pytest
from messages import calls, files, in_batch, inputs, networks, options

import advaug

CORE = Path(advaug.__file__).parent
ROOMS = ("base", "networks", "view", "step")
# Tried by tests that start processes, fixes included: `test_processes`, `test_distributed`.
ELSEWHERE = ("a worker of a DataLoader", "copy.deepcopy(adversary)", "`fully_shard`")
CASES = {
    **options.CASES,
    **networks.CASES,
    **inputs.CASES,
    **calls.CASES,
    **in_batch.CASES,
    **files.CASES,
}


@pytest.mark.parametrize("name", CASES)
def test_the_fix_that_a_message_names_works(name):
    case = CASES[name]
    with pytest.raises(case.kind, match=case.says):
        case.wrong()
    case.fixed()


def place_of(case):
    """File and line of the core's `raise` that a case meets."""
    with pytest.raises(case.kind) as caught:
        case.wrong()
    places = set()
    error = caught.value
    while error is not None:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            frames.append((Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
            trace = trace.tb_next
        places |= {frame for frame in frames if frame[0].is_relative_to(CORE)}
        error = error.__cause__
    return places


def raises_of(path):
    """Lines of the `raise` statements of a file that make an error of their own, tried here."""
    text = path.read_text()
    blocks = [
        getattr(node, name, None)
        for node in ast.walk(ast.parse(text))
        for name in ("body", "orelse", "finalbody")
    ]
    lines = set()
    for body in filter(lambda block: isinstance(block, list), blocks):
        for before, node in zip([None, *body], body, strict=False):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            words = ast.get_source_segment(text, before or node)
            if not any(each in words for each in ELSEWHERE):
                lines.add(node.lineno)
    return lines


def test_every_message_of_the_core_has_a_case():
    paths = [*CORE.glob("*.py"), *(path for room in ROOMS for path in (CORE / room).glob("*.py"))]
    assert sum(len(raises_of(path)) for path in paths) > 80
    met = set().union(*map(place_of, CASES.values()))
    left = [
        f"{path.relative_to(CORE)}:{line}"
        for path in paths
        for line in sorted(raises_of(path))
        if (path, line) not in met
    ]
    assert "\n".join(left) == ""
