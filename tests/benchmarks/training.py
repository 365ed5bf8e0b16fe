"""Is the trainer as fast as a loop written by hand, and do two trainings at a time pay?

    python -m tests.benchmarks.training                                     on digits, and two at a time
    python -m tests.benchmarks.training --device cuda --dataset FOLDER      the rate on a GPU, images on it

Both loops train one network in turn, A B A B, in this process; the figure is the median ratio of their times.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import secost
from secost.networks.sources import load
from secost.plan.spec import TrainSpec
from secost.training.datasets import Data, Split, load_data
from secost.training.loop import accuracy, train

_MODEL, _ROUNDS, _EPOCHS = "small:resnet", 7, 3
_ROUNDS_ON_GPU = 3
_ON_GPU = {"small:resnet": 256, "resnet18": 256}  # images a step


def ours(net: nn.Module, data: Data) -> None:
    train(net, data, TrainSpec(epochs=_EPOCHS, augment=False).training(0))


def by_hand(net: nn.Module, data: Data) -> None:
    """What one would write without secost: the same optimiser, a cosine, a test after each epoch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = -(-len(data.train) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * steps)
    for _ in range(_EPOCHS):
        net.train()
        order = torch.randperm(len(data.train))
        for step in range(steps):
            picked = order[64 * step : 64 * (step + 1)]
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(net(data.train.images[picked]), data.train.labels[picked])
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy(net, data.test)


def seconds(loop: Callable[[nn.Module, Data], None], data: Data) -> float:
    net = load(_MODEL, classes=data.classes)
    begin = time.thread_time()
    loop(net, data)
    return time.thread_time() - begin


def throughput(data: Data) -> None:
    seconds(ours, data)
    ratios = []
    for _ in range(_ROUNDS):
        ratios.append(seconds(ours, data) / seconds(by_hand, data))
    print(f"{_MODEL}, {_EPOCHS} epochs of digits: {statistics.median(ratios):.3f} times the time of the loop by hand "
          f"({min(ratios):.3f} to {max(ratios):.3f})")


# --- on a GPU ---


def by_hand_on(device: str, batch: int, net: nn.Module, data: Data) -> None:
    """The images on the device, bfloat16, channels last, shifted and mirrored a batch at a time by torchvision."""
    from torchvision.transforms import v2

    torch.backends.cudnn.benchmark = True
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = data.train.images.to(device, memory_format=torch.channels_last)
    labels = data.train.labels.to(device)
    test = Split(data.test.images.to(device, memory_format=torch.channels_last), data.test.labels.to(device))
    augment = v2.Compose([v2.RandomCrop(data.resolution, padding=data.resolution // 8), v2.RandomHorizontalFlip()])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * -(-len(labels) // batch))
    for _ in range(_EPOCHS):
        net.train()
        for picked in torch.randperm(len(labels), device=device).split(batch):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                loss = nn.functional.cross_entropy(net(augment(images[picked])), labels[picked])
            loss.backward()
            optimizer.step()
            schedule.step()
    accuracy(net, test)


def ours_on(device: str, batch: int, net: nn.Module, data: Data) -> None:
    train(net, data, TrainSpec(epochs=_EPOCHS, batch_size=batch, amp=True).training(0), device=device)


def rate_on(device: str, data: Data) -> None:
    for model, batch in _ON_GPU.items():
        taken: dict[str, list[float]] = {"secost": [], "by hand": []}
        for number in range(_ROUNDS_ON_GPU + 1):
            for name, loop in (("secost", ours_on), ("by hand", by_hand_on)):
                net = load(model, classes=data.classes)
                begin = time.perf_counter()
                loop(device, batch, net, data)
                if number:  # the first finds the device cold
                    taken[name].append(time.perf_counter() - begin)
        ratios = [mine / hand for mine, hand in zip(*taken.values(), strict=True)]
        rates = {name: _EPOCHS * len(data.train) / statistics.median(times) for name, times in taken.items()}
        print(f"{model} on {device}, {_EPOCHS} epochs of {len(data.train)} images in steps of {batch}, with transfer "
              f"and test: {rates['secost']:,.0f} images/s, by hand {rates['by hand']:,.0f}; "
              f"{statistics.median(ratios):.3f} times its time ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)


def several_at_a_time() -> None:
    taken: dict[int, list[float]] = {1: [], 2: []}
    options: dict[str, Any] = {"seeds": 4, "epochs": 5, "latency": False}
    for _ in range(3):
        for jobs in taken:
            folder = tempfile.mkdtemp()
            begin = time.perf_counter()
            secost.train(_MODEL, ["eca"], out=f"{folder}/run", jobs=jobs, **options)
            taken[jobs].append(time.perf_counter() - begin)
            shutil.rmtree(folder)
    ratios = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
    print(f"8 trainings, two at a time: {statistics.median(ratios):.2f} times as fast as one at a time "
          f"({min(ratios):.2f} to {max(ratios):.2f}; {statistics.median(taken[1]):.1f} s one at a time)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dataset", default="digits")
    asked = parser.parse_args()
    if asked.device != "cpu":
        return rate_on(asked.device, load_data(asked.dataset))
    torch.set_num_threads(1)
    throughput(load_data("digits"))
    several_at_a_time()


if __name__ == "__main__":
    main()
