"""The smallest faithful stand-ins of trainers that are not installed here.

Each does what its original does around a training step, in the same order and under the same names,
and nothing else: Ultralytics 8.4 (`engine/trainer.py`), DeepLabCut 3.0
(`pose_estimation_pytorch/runners/train.py`), mmengine 0.10 (`runner`, `model`, `hooks`).
"""

import copy
import logging
import sys
import types
from types import SimpleNamespace

import torch
from torch import nn
from toys import MARKS, HeatmapToy, pictures


def install(monkeypatch, **modules):
    """Let `import a.b.c` find namespaces of these contents, by names such as `a__b__c`."""
    for name, content in modules.items():
        parts = name.split("__")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if path not in sys.modules or end == len(parts):
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        vars(sys.modules[".".join(parts)]).update(content)
        for end in range(1, len(parts)):
            monkeypatch.setattr(
                sys.modules[".".join(parts[:end])],
                parts[end],
                sys.modules[".".join(parts[: end + 1])],
                raising=False,
            )


# --- Ultralytics --------------------------------------------------------------------------------


class PoseModel(nn.Module):
    """Gives its loss where it gets a batch."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = HeatmapToy(dropout=0.0), []

    def forward(self, x):
        if not isinstance(x, dict):
            return self.net(x)
        self.seen.append(x["img"].detach())
        loss = self.net(x["img"]).square().mean()
        return loss, {"pose_loss": loss.detach()}


def flat_people(seed):
    """Ultralytics' batch: bytes, and people with the number of their picture."""
    images, points = pictures(4, seed=seed)
    marks = torch.cat([(points + 0.5) / images.shape[-1], torch.full((4, MARKS, 1), 2.0)], dim=2)
    return {"img": (255 * images).byte(), "keypoints": marks, "batch_idx": torch.arange(4.0)}


class PoseTrainer:
    """Two batches an epoch; the mean over weights is validated and saved."""

    def __init__(self, overrides):
        self.args = SimpleNamespace(seed=0, **overrides)
        self.device, self.data = torch.device("cpu"), {"channels": 3}
        self.checkpoint, self.rows, self.plotted, self.validated = None, [], [], []

    def train(self, resume=None):
        torch.manual_seed(0)
        self.model = PoseModel()
        self.optimizer = self.build_optimizer(self.model, name="SGD", lr=0.05)
        self.ema, start = copy.deepcopy(self.model), 0
        if resume is not None:
            self.model.load_state_dict(resume["model"])
            self.optimizer.load_state_dict(resume["optimizer"])
            start = resume["epoch"] + 1
        for epoch in range(start, self.args.epochs):
            self.model.train()
            for index in range(2):
                batch = self.preprocess_batch(flat_people(2 * epoch + index))
                loss, items = self.model(batch)
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.plot_training_samples(batch, index)
            self.ema.load_state_dict(self.model.state_dict())
            self.validate()
            self.rows.append({"epoch": epoch, **self.label_loss_items(items)})
            held = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            self.checkpoint = copy.deepcopy({"epoch": epoch, **held})
        self.final_eval()

    def validate(self):
        with torch.no_grad():
            self.ema.eval()({"img": flat_people(99)["img"].float() / 255})
        self.label_loss_items({"pose_loss": 0.0}, prefix="val")
        self.validated.append(self.ema.seen.pop())

    def build_optimizer(self, model, name="auto", lr=0.001):
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def preprocess_batch(self, batch):
        return {**batch, "img": batch["img"].float() / 255}

    def plot_training_samples(self, batch, ni):
        self.plotted.append(batch["img"].numpy())

    def label_loss_items(self, loss_items=None, prefix="train"):
        if loss_items is None:
            return [f"{prefix}/pose_loss"]
        return {f"{prefix}/{name}": round(float(v), 5) for name, v in loss_items.items()}

    def final_eval(self):
        self.validate()


def ultralytics(monkeypatch):
    install(
        monkeypatch,
        ultralytics__models__yolo__pose={"PoseTrainer": PoseTrainer},
        ultralytics__utils={"LOGGER": logging.getLogger("ultralytics"), "RANK": -1},
    )


# --- DeepLabCut ---------------------------------------------------------------------------------


class PoseTrainingRunner:
    """Reads its snapshot while it is made; two batches an epoch."""

    def __init__(self, model, optimizer, device="cpu", snapshot_path=None, eval_interval=1):
        self.model, self.optimizer, self.device = model, optimizer, device
        self.starting_epoch, self.logged, self.seen = 0, [], []
        if snapshot_path:
            snapshot = torch.load(snapshot_path, map_location=device, weights_only=True)
            self.model.load_state_dict(snapshot["model"])
            self.optimizer.load_state_dict(snapshot["optimizer"])
            self.starting_epoch = snapshot["epoch"]

    def state_dict(self, epoch):
        held = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"epoch": epoch, **held}

    def fit(self, epochs, path):
        for epoch in range(self.starting_epoch, self.starting_epoch + epochs):
            self.model.train()
            for index in range(2):
                self.logged.append(self.step(animals(2 * epoch + index), "train"))
            with torch.no_grad():
                self.model.eval()
                self.step(animals(99), "eval")
            torch.save(self.state_dict(epoch + 1), path)

    def step(self, batch, mode="train"):
        if mode == "train":
            self.optimizer.zero_grad()
        inputs = batch["image"].to(self.device).float()
        if mode == "eval":
            self.seen.append(inputs)
        losses = {"total_loss": self.model(inputs).square().mean()}
        if mode == "train":
            losses["total_loss"].backward()
            self.optimizer.step()
        return {name: value.detach().cpu().numpy() for name, value in losses.items()}


def animals(seed):
    """DeepLabCut's batch, with one animal a picture and room for another; half of it missing."""
    images, points = pictures(4, seed=seed)
    marks = torch.cat([points, torch.full((4, MARKS, 1), 2.0)], dim=2)
    marks[:, 0] = torch.tensor([-1.0, -1.0, 0.0])
    keypoints = torch.stack([marks, torch.zeros_like(marks)], dim=1)
    return {"image": images, "annotations": {"keypoints": keypoints}, "context": {}}


def build_training_runner(model, optimizer, **options):
    return sys.modules[f"{DEEPLABCUT}.train"].PoseTrainingRunner(model, optimizer, **options)


DEEPLABCUT = "deeplabcut.pose_estimation_pytorch.runners"


def deeplabcut(monkeypatch):
    install(
        monkeypatch,
        deeplabcut__pose_estimation_pytorch__runners__train={
            "PoseTrainingRunner": PoseTrainingRunner,
            "build_training_runner": build_training_runner,
        },
    )


# --- mmengine -----------------------------------------------------------------------------------


class Hook:
    """Only what mmengine's hooks bring to a subclass that overrides the rest."""

    def every_n_train_iters(self, runner, n):
        return (runner.iter + 1) % n == 0 if n > 0 else False


class Registry:
    def register_module(self):
        return lambda cls: cls


class Preprocessor(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([120.0, 110.0, 100.0]).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor([60.0, 60.0, 60.0]).view(-1, 1, 1), False)

    def forward(self, data, training):
        inputs = (torch.stack(data["inputs"]).float() - self.mean) / self.std
        return {**data, "inputs": inputs}


class Estimator(nn.Module):
    """A BaseModel: the preprocessor first, then its own call with a mode."""

    def __init__(self):
        super().__init__()
        self.data_preprocessor, self.net = Preprocessor(), HeatmapToy(dropout=0.0)
        self.seen = []

    def train_step(self, data, optimizer):
        data = self.data_preprocessor(data, True)
        loss = self(**data, mode="loss")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def val_step(self, data):
        return self(**self.data_preprocessor(data, False), mode="predict")

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if mode == "predict":
            self.seen.append(inputs)
        return self.net(inputs).square().mean()


class Sample(SimpleNamespace):
    """A data sample whose groups know which fields they have."""


def crops(seed):
    """What mmpose's pipeline packs: bytes, and keypoints in the pixels of the crop."""
    images, points = pictures(4, seed=seed)
    samples = [
        Sample(
            gt_instances={
                "transformed_keypoints": marks[None].numpy(),
                "keypoints_visible": torch.ones(1, MARKS, 2).numpy(),
            }
        )
        for marks in points
    ]
    return {"inputs": list((255 * images).byte()), "data_samples": samples}


class Runner:
    """Two iterations an epoch; resumes before the hooks' `before_train`."""

    def __init__(self, hook, epochs, resume_from=None):
        torch.manual_seed(0)
        self.model = Estimator()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.hook, self.epochs, self.resume_from = hook, epochs, resume_from
        self._resume, self.iter, self.logged = resume_from is not None, 0, {}
        self.logger = logging.getLogger("mmengine")
        self.message_hub = SimpleNamespace(update_scalar=self.logged.__setitem__)

    def load(self, checkpoint):
        self.hook.after_load_checkpoint(self, checkpoint)
        self.model.load_state_dict(checkpoint["state_dict"])

    def train(self):
        start = 0
        if self._resume:
            checkpoint = torch.load(self.resume_from, weights_only=True)
            self.load(checkpoint)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            start = checkpoint["epoch"]
        self.hook.before_train(self)
        for epoch in range(start, self.epochs):
            self.model.train()
            for index in range(2):
                self.iter = 2 * epoch + index
                self.model.train_step(crops(self.iter), self.optimizer)
                self.hook.after_train_iter(self, index, data_batch=None, outputs=None)
            self.model.eval()
            with torch.no_grad():
                self.model.val_step(crops(99))
        self.hook.after_train(self)

    def save(self, path):
        held = {"state_dict": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        checkpoint = {"epoch": self.epochs, **held}
        self.hook.before_save_checkpoint(self, checkpoint)
        torch.save(checkpoint, path)


def mmengine(monkeypatch):
    install(
        monkeypatch,
        mmengine__hooks={"Hook": Hook},
        mmengine__registry={"HOOKS": Registry()},
        mmengine__model={"is_model_wrapper": lambda model: hasattr(model, "module")},
    )
