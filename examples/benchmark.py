"""Run one of the benchmarks: `python examples/benchmark.py step --help`."""

import importlib
import sys

BENCHMARKS = {
    "step": "lab.benchmarks.step",
    "data": "lab.benchmarks.data",
    "input": "lab.benchmarks.input",
    "detectors": "lab.detector_study",
    "power": "lab.benchmarks.power",
    "corruption-sheet": "lab.corruption_sheet",
}


def main() -> int:
    """Hand the remaining arguments to the benchmark that the first one names."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print(f"usage: benchmark.py {{{','.join(BENCHMARKS)}}} [ARGUMENTS]", file=sys.stderr)
        return 0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"benchmark.py {name}"
    return importlib.import_module(BENCHMARKS[name]).main()


if __name__ == "__main__":
    sys.exit(main())
