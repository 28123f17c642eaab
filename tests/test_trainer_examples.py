"""The examples for existing trainers: they run, and a user adds as few lines as they mark.

Those of trainers that want an environment of their own are skipped where these are absent, and
`test_integrations_foreign` holds the same files against stand-ins.
"""

import ast
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples" / "trainers"
MARK = "# SAAT"
# Lines a user added before `augment`: counted in trainers' loops for the issue that asked for these
# files, and in the examples of that time (imports, adapters, the adversary, its use). None: there
# was no example, and nobody has counted.
BEFORE = {
    "lightning_module.py": 4,
    "accelerate_loop.py": 4,
    "transformers_trainer.py": None,
    "ultralytics_pose.py": 40,
    "keypoint_rcnn.py": 13,
    "deeplabcut_runner.py": 22,
    "lightning_pose_tracker.py": None,
    "sleap_nn_single_instance.py": 11,
    "mmengine_runner.py": None,
}
# To train, to save and resume, to log. Accelerate's loop has no log of its own.
AFTER = {
    "lightning_module.py": 2,
    "accelerate_loop.py": 4,
    "transformers_trainer.py": 2,
    "ultralytics_pose.py": 2,
    "keypoint_rcnn.py": 3,
    "deeplabcut_runner.py": 2,
    "lightning_pose_tracker.py": 2,
    "sleap_nn_single_instance.py": 2,
    "mmengine_runner.py": 2,
}
# The data's, not the adversary's.
OTHERS = {"IMAGENET", "encode_heatmaps", "HourglassNet", "SyntheticPeople"}


def lines_of(name):
    return (EXAMPLES / name).read_text().splitlines()


def marked_lines(name):
    return {n for n, line in enumerate(lines_of(name), 1) if MARK in line}


def adversarial_names(name):
    """What marked lines import or assign."""
    marked, names = marked_lines(name), set()
    for node in ast.walk(ast.parse((EXAMPLES / name).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("advaug"):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.Assign) and node.lineno in marked:
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names - OTHERS - {"images", "trainer"}


def test_every_example_is_counted():
    examples = {path.name for path in EXAMPLES.glob("*.py")} - {"faces.py"}
    assert examples == set(AFTER) == set(BEFORE)


@pytest.mark.parametrize("name", AFTER)
def test_a_user_adds_as_few_lines_as_are_marked_and_the_example_is_short(name):
    lines, marked = lines_of(name), marked_lines(name)
    assert len(marked) == AFTER[name]
    assert AFTER[name] <= (4 if name == "accelerate_loop.py" else 3)
    assert BEFORE[name] is None or AFTER[name] <= BEFORE[name]
    assert len([line for line in lines if line.strip()]) < 60
    body = ast.parse("\n".join(lines))
    used = {
        node.lineno
        for node in ast.walk(body)
        if isinstance(node, ast.Name) and node.id in adversarial_names(name)
    }
    # What only reads the report at the end of a script is no part of the training.
    reads = {n for n in used if "report" in lines[n - 1] and MARK not in lines[n - 1]}
    assert used - reads <= marked
    assert name == "accelerate_loop.py" or not reads


def run(name, *words, python=(sys.executable,)):
    """Run an example in a process of its own."""
    done = subprocess.run(
        [*python, str(EXAMPLES / name), *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def needs(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


# The first step of an optimizer imports a part of PyTorch that holds on to the process group. What
# is imported before there is one does not: its threads end with it, and none is left to let go of
# a tensor while Python shuts down, which would abort the process.
RANK = """
import runpy, sys
import torch._dynamo
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_loop_on_accelerate_runs_in_two_processes(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = ("--cpu", "--steps", "3", "--output", tmp_path / "end")
    python = (sys.executable, *launch, str(tmp_path / "rank.py"))
    printed = run("accelerate_loop.py", *words, python=python)
    assert printed.count("of 3 batches") == 1  # the first process speaks for both
    held = torch.load(tmp_path / "end" / "custom_checkpoint_0.pkl", weights_only=True)
    assert held["_extra_state"]["calls"] == 3


def test_the_module_on_lightning_runs(monkeypatch, capsys):
    pytest.importorskip("lightning.pytorch")
    monkeypatch.setattr(
        sys, "argv", ["lightning_module.py", "--steps", "2", "--accelerator", "cpu"]
    )
    monkeypatch.syspath_prepend(EXAMPLES)
    with pytest.warns():  # Lightning's own, on the machine
        runpy.run_path(str(EXAMPLES / "lightning_module.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "adversary/beta" in printed
    assert "loss" in printed


def test_the_trainer_of_transformers_runs_and_goes_on(tmp_path):
    needs("transformers")
    words = ("--cpu", "--output", tmp_path)
    assert "adversary/beta" in run("transformers_trainer.py", "--steps", "2", *words)
    held = torch.load(tmp_path / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert held["advaug"]["_extra_state"]["calls"] == 2
    run("transformers_trainer.py", "--steps", "4", "--resume", *words)
    held = torch.load(tmp_path / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert held["advaug"]["_extra_state"]["calls"] == 4


def test_keypoint_rcnn_runs(tmp_path):
    words = ("--steps", "2", "--side", "64", "--output", tmp_path / "end.pt")
    assert "'beta': 0." in run("keypoint_rcnn.py", *words)
    held = torch.load(tmp_path / "end.pt", weights_only=True)
    assert held["optimizer"]["advaug"]["_extra_state"]["calls"] == 2


# --- environments of their own ------------------------------------------------------------------


def test_ultralytics_own_trainer_runs_and_goes_on_after_a_crash(tmp_path, monkeypatch):
    needs("ultralytics")
    words = ("--epochs", "2", "--pictures", "8", "--output", tmp_path)
    run("ultralytics_pose.py", *words)
    columns = (tmp_path / "run" / "results.csv").read_text().splitlines()[0]
    assert "train/adversary/beta" in columns
    assert (tmp_path / "run" / "train_batch0.jpg").exists()
    script = f"""
from ultralytics import YOLO
from advaug.integrations.ultralytics import AdversarialPoseTrainer
class Crash(Exception): pass
def crash(trainer):
    if trainer.epoch == 1: raise Crash
model = YOLO("yolo11n-pose.yaml")
model.add_callback("on_train_epoch_start", crash)
where = dict(project={str(tmp_path)!r}, name="crash")
facts = dict(epochs=3, imgsz=64, batch=8, amp=False, plots=False, val=False, fliplr=0.0)
try:
    model.train(trainer=AdversarialPoseTrainer, data={str(tmp_path / "data/data.yaml")!r}, **facts,
        **where)
except Crash:
    print("crashed")
seen = []
again = YOLO({str(tmp_path / "crash/weights/last.pt")!r})
again.add_callback("on_train_start", lambda t: seen.append(t.adversary._calls))
again.add_callback("on_train_epoch_end", lambda t: seen.append(t.adversary._calls))
again.train(trainer=AdversarialPoseTrainer, resume=True)
print("calls", seen)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "crashed" in done.stdout, done.stderr[-3000:]
    assert "calls [1, 2, 3]" in done.stdout, done.stderr[-3000:]


def test_deeplabcuts_own_runner_runs_and_goes_on(tmp_path):
    needs("deeplabcut")
    run("deeplabcut_runner.py", "--epochs", "1", "--output", tmp_path / "one")
    (snapshot,) = (tmp_path / "one").glob("snapshot*.pt")
    assert torch.load(snapshot)["optimizer"]["advaug"]["_extra_state"]["calls"] == 4
    words = ("--epochs", "1", "--output", tmp_path / "two", "--snapshot", snapshot)
    run("deeplabcut_runner.py", *words)
    (snapshot,) = (tmp_path / "two").glob("snapshot*.pt")
    assert torch.load(snapshot)["optimizer"]["advaug"]["_extra_state"]["calls"] == 8
    assert "adversary/beta" in (tmp_path / "one" / "learning_stats.csv").read_text()


def test_lightning_poses_own_tracker_runs():
    needs("lightning_pose")
    assert "adversary/beta" in run("lightning_pose_tracker.py", "--steps", "2")


def test_sleap_nns_own_module_runs():
    needs("sleap_nn")
    assert "adversary/beta" in run("sleap_nn_single_instance.py", "--steps", "2")


def test_mmengines_own_runner_runs(tmp_path):
    needs("mmengine")
    printed = run("mmengine_runner.py", "--epochs", "1", "--output", tmp_path)
    assert "adversary/beta" in printed
    held = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    assert held["advaug"]["_extra_state"]["calls"] == 4
    assert not [name for name in held["state_dict"] if "attacker" in name]
