"""Trains one network from one seed, one epoch at a time, and can be killed at any moment.

What is random is drawn from (seed, epoch) alone: the order of the data, what augmentation draws, dropout. So variants
trained from one seed see the same batches, and a training that goes on from a checkpoint ends where an undisturbed one
does. Optimiser and schedule are torch's and timm's; the loop holds nothing that a hand-written one would not.

A checkpoint is a safetensors file: weights, momenta, the curve so far. No pickle. It appears whole or not at all, and
holds a checksum of its tensors; one that can't be read, was made for another training or does not fit the network
counts as none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from secost.errors import BadSpecError, RunError, SecostError
from secost.networks.importing import import_quietly
from secost.networks.surgery import seeded
from secost.networks.tracing import eval_mode
from secost.plan.trials import Training
from secost.training.datasets import Data, Split, shuffled
from secost.writing import write_whole

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
_WARM_UP_SHARE, _TEST_BATCH = 0.1, 512
_WEIGHT, _MOMENTUM = "weight.", "momentum."
# Of a test's time to that of the epochs before it: how much at most; how many images are tested while one is trained on
# (1.6 to 2.3 by small:resnet and small:mobile at 32 px); and how many tests there are, however long they take.
_TEST_SHARE, TRAINED_PER_TESTED, _LEAST_TESTS = 0.3, 2.0, 5
_PAD_SHARE = 8  # a crop moves by at most an eighth of the image
_BY_IMAGE = "each image is shifted by itself"  # once a whole batch was: its checkpoints are not gone on with


class TrainingError(SecostError):
    """A training that came to nothing: the loss is no number any more."""


@dataclass
class Trained:
    """How one training went. `top1` is the test accuracy in percent after the last epoch.

    `curve` has a row an epoch: `epoch`, `loss`, `train_top1`, and where it was tested `test_top1`. `images_per_s` is
    the speed of the training passes alone; None where all epochs came from a checkpoint. `resumed_at` is the epoch that
    a checkpoint had reached.
    """

    top1: float
    curve: list[dict[str, float]] = field(default_factory=list)
    images_per_s: float | None = None
    resumed_at: int = 0
    damaged: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """Network and optimiser as they are after `len(curve)` epochs of the training named by `identity`."""

    identity: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    curve: list[dict[str, float]]


def train(
    net: nn.Module, data: Data, training: Training, checkpoint: Path | None = None,
    on_epoch: Callable[[int], object] = lambda epoch: None, device: str = "cpu", memory_format: str = "contiguous",
) -> Trained:
    """Train the network in place for the epochs asked for, and test it on the way: after the last, and before it after
    each or every so-maniest, so that the curve costs little. The test set decides nothing.

    With `checkpoint`, every epoch is kept there, and what it holds is not trained again; a damaged one is thrown away
    and `damaged` says so. Raises TrainingError where the loss turns NaN, BadSpecError for classes that don't fit.
    """
    net, data = _placed(net, data, device, memory_format)
    check_classes(net, data)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=training.learning_rate, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)
    steps = math.ceil(len(data.train) / training.batch_size)
    schedule = _schedule(optimizer, training, steps)
    every = epochs_between_tests(data, training.epochs)
    kept, damaged = _resume(net, optimizer, training, checkpoint)
    curve, passed = list(kept.curve), 0.0
    with _deterministic(training.deterministic):
        for epoch in range(len(curve), training.epochs):
            started = time.perf_counter()
            loss, hits = _one_epoch(net, data, training, optimizer, schedule, epoch, steps)
            passed += time.perf_counter() - started
            if not math.isfinite(loss):
                raise TrainingError(f"the loss became {loss} in epoch {epoch + 1}: try a lower --learning-rate")
            curve.append({"epoch": epoch + 1, "loss": loss, "train_top1": hits})
            if (training.epochs - epoch - 1) % every == 0:
                curve[-1]["test_top1"] = accuracy(net, data.test)
            if checkpoint is not None:
                write_checkpoint(checkpoint, Checkpoint(identity(training), net, optimizer, curve))
            on_epoch(epoch + 1)
    new = training.epochs - len(kept.curve)
    speed = new * len(data.train) / passed if new and passed else None
    return Trained(curve[-1]["test_top1"], curve, speed, len(kept.curve), damaged)


def accuracy(net: nn.Module, split: Split) -> float:
    """Top-1 accuracy in percent, in eval mode; the network's own mode is left as it was."""
    with eval_mode(net), torch.inference_mode():
        answers = torch.cat([net(images).argmax(1) for images in torch.split(split.images, _TEST_BATCH)])
    return 100.0 * int((answers == split.labels).sum()) / len(split)


def epochs_between_tests(data: Data, epochs: int) -> int:
    """After how many epochs each a test takes no more than about a third of their time; but five tests at least."""
    affordable = math.ceil(len(data.test) / (_TEST_SHARE * TRAINED_PER_TESTED * len(data.train)))
    return max(1, min(affordable, epochs // _LEAST_TESTS))


def check_classes(net: nn.Module, data: Data) -> None:
    """Raise BadSpecError where the network's outputs are not one for each class."""
    with eval_mode(net), torch.inference_mode():
        outputs = net(data.test.images[:1])
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise BadSpecError(f"{type(net).__name__} gives no scores (N, classes): train a classification network")
    if outputs.shape[1] != data.classes:
        raise BadSpecError(f"{type(net).__name__} gives {outputs.shape[1]} scores and {data.name} has {data.classes} "
                           "classes: let its factory take num_classes")


def identity(training: Training) -> str:
    """What a checkpoint must have been made for."""
    drawn = _BY_IMAGE if training.augment else ""
    return hashlib.sha256((repr(training) + training.part + drawn).encode()).hexdigest()[:16]


def draw_seed(*parts: int | str) -> int:
    """A seed from several numbers: far apart for neighbours, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def _one_epoch(
    net: nn.Module, data: Data, training: Training, optimizer: torch.optim.Optimizer, schedule: Any, epoch: int,
    steps: int,
) -> tuple[float, float]:
    """The mean loss, and the accuracy in percent on what was trained on, while it was."""
    net.train()
    device = data.train.labels.device
    order = shuffled(len(data.train), draw_seed(training.seed, epoch, "order")).to(device)
    augment = _augmentation(training, data)
    losses, hits = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    with seeded(draw_seed(training.seed, epoch, "draws"), device):
        for step, picked in enumerate(torch.split(order, training.batch_size)):
            images, labels = augment(data.train.images[picked]), data.train.labels[picked]
            schedule.step_update(epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=training.amp):
                outputs = net(images)
                loss = nn.functional.cross_entropy(outputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses += loss.detach() * len(labels)
            hits += (outputs.detach().argmax(1) == labels).sum()
    return float(losses) / len(data.train), 100.0 * int(hits) / len(data.train)


def _augmentation(training: Training, data: Data) -> Callable[[Tensor], Tensor]:
    """What is done to the images (N, C, H, W) of a step: each is shifted, and photographs mirrored, by itself."""
    if not training.augment:
        return lambda images: images
    return functools.partial(augmented, pad=max(1, data.resolution // _PAD_SHARE), flips=data.flips)


def augmented(images: Tensor, pad: int, flips: bool) -> Tensor:
    """Square images (N, C, S, S), each padded by zeros and cut to its size anywhere, and mirrored half of the time.

    Drawn on the images' device, for all at once: one copy, and nothing that a GPU would wait for.
    """
    count, _, size, _ = images.shape
    place = torch.arange(size, device=images.device)
    down, right = torch.randint(2 * pad + 1, (2, count, 1), device=images.device)
    rows, columns = down + place, right + place
    if flips:
        mirrored = torch.rand(count, 1, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    layout = _layout_of(images)
    image = torch.arange(count, device=images.device)[:, None, None]
    cut = nn.functional.pad(images, (pad, pad, pad, pad))[image, :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _layout_of(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _schedule(optimizer: torch.optim.Optimizer, training: Training, steps: int) -> Any:
    """A linear warm-up and a cosine, a function of the step alone, so that it needs no checkpoint."""
    scheduler: Any = import_quietly("timm.scheduler")
    total = training.epochs * steps
    return scheduler.CosineLRScheduler(
        optimizer, t_initial=total, warmup_t=max(1, round(_WARM_UP_SHARE * total)),
        warmup_lr_init=training.learning_rate / 100, warmup_prefix=False, t_in_epochs=False,
    )


def _resume(
    net: nn.Module, optimizer: torch.optim.Optimizer, training: Training, path: Path | None
) -> tuple[Checkpoint, bool]:
    """What a checkpoint holds, loaded into network and optimiser; and whether there was a damaged one."""
    fresh = Checkpoint(identity(training), net, optimizer, [])
    if path is None or not path.exists():
        return fresh, False
    kept = read_checkpoint(path, fresh)
    if kept is None:
        path.unlink(missing_ok=True)
    return kept or fresh, kept is None


def _placed(net: nn.Module, data: Data, device: str, memory_format: str) -> tuple[nn.Module, Data]:
    # On a GPU always: its convolutions in bfloat16 take channels last, and a training's layout decides no figure.
    last = memory_format == "channels-last" or device == "cuda"
    layout = torch.channels_last if last else torch.contiguous_format
    if device != "cpu" or last:
        net = net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    train, test = (Split(split.images.to(device).contiguous(memory_format=layout), split.labels.to(device))
                   for split in (data.train, data.test))
    return net, replace(data, train=train, test=test)


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Only algorithms that give the same to the bit; else a GPU may try which of its convolutions is fastest."""
    before, quick = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it, on a GPU
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = quick


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write it whole. Raises RunError where that is not possible."""
    tensors = _tensors(state)
    about = {"identity": state.identity, "curve": json.dumps(state.curve), "checksum": _checksum(tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(tensors, about))
    except OSError as error:
        raise RunError(f"can't write the checkpoint {str(path)!r}: {error.strerror or error}") from None


def read_checkpoint(path: Path, into: Checkpoint) -> Checkpoint | None:
    """Load a checkpoint into network and optimiser; None, with both as they were, where it is not usable."""
    try:
        with safe_open(str(path), "pt") as file:
            about: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        curve = json.loads(about["curve"])
        whole = about["checksum"] == _checksum(tensors) and about["identity"] == into.identity
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError):
        return None
    expected = into.net.state_dict()
    weights = {name.removeprefix(_WEIGHT): item for name, item in tensors.items() if name.startswith(_WEIGHT)}
    fits = weights.keys() == expected.keys() and all(weights[name].shape == expected[name].shape for name in expected)
    if not whole or not fits:
        return None
    into.net.load_state_dict(weights)
    _load_momenta(into.optimizer, tensors)
    return replace(into, curve=curve)


def _tensors(state: Checkpoint) -> dict[str, Tensor]:
    tensors = {f"{_WEIGHT}{name}": item.detach() for name, item in state.net.state_dict().items()}
    for number, parameter in enumerate(_parameters(state.optimizer)):
        momentum = state.optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"{_MOMENTUM}{number}"] = momentum
    # A copy of each: weights that two modules share are two entries of the state dict.
    return {name: item.cpu().clone().contiguous() for name, item in tensors.items()}


def _load_momenta(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    for number, parameter in enumerate(_parameters(optimizer)):
        momentum = tensors.get(f"{_MOMENTUM}{number}")
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device, copy=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
