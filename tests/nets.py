"""Small odd networks, each with the figures that follow from its sizes: what "any nn.Module" means here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


def conv_params(into: int, out: int, kernel: int = 1, groups: int = 1, bias: bool = False) -> int:
    return into // groups * out * kernel * kernel + (out if bias else 0)


def norm_params(channels: int) -> int:
    return 2 * channels


def conv_bn(into: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


def conv_bn_relu(into: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [*conv_bn(into, out, kernel, stride, groups), nn.ReLU()]


class Head(nn.Sequential):
    """Global mean and a linear layer."""

    def __init__(self, channels: int, classes: int = 10) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class FunctionalBasicBlock(nn.Module):
    """The CIFAR ResNet's block as many write it: functional ReLU and an empty Sequential for the identity."""

    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(into, out, 3, stride)
        self.conv2, self.bn2 = conv_bn(out, out)
        self.shortcut = nn.Sequential()
        if stride != 1 or into != out:
            self.shortcut = nn.Sequential(*conv_bn(into, out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class TinyResNet(nn.Module):
    """One plain and one down-sampling block, all activations functional."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, width)
        self.layer1 = FunctionalBasicBlock(width, width)
        self.layer2 = FunctionalBasicBlock(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, 10)
        block1 = 2 * (conv_params(width, width, 3) + norm_params(width))
        block2 = conv_params(width, 2 * width, 3) + conv_params(2 * width, 2 * width, 3) + conv_params(width, 2 * width)
        stem = conv_params(3, width, 3) + norm_params(width)
        self.expected_params = stem + block1 + block2 + 3 * norm_params(2 * width) + 2 * width * 10 + 10
        self.expected_sites = {"layer1.bn2": (width, 1), "layer2.bn2": (2 * width, 2)}

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(F.avg_pool2d(x, x.shape[-1]).flatten(1))


class _PreActivationBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(out)))


class PreActivation(nn.Sequential):
    """Norm and activation before each convolution: the branch ends in a convolution."""

    def __init__(self, width: int = 16) -> None:
        blocks = (_PreActivationBlock(width) for _ in range(2))
        super().__init__(nn.Conv2d(3, width, 3, 1, 1), *blocks, Head(width))
        block = 2 * (conv_params(width, width, 3) + norm_params(width))
        self.expected_params = conv_params(3, width, 3, bias=True) + 2 * block + width * 10 + 10
        self.expected_sites = {"1.conv2": (width, 1), "2.conv2": (width, 1)}


class SharedReLU(nn.Module):
    """One ReLU module for everything, as in torchvision's blocks."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, width)
        self.conv2, self.bn2 = conv_bn(width, width)
        self.conv3, self.bn3 = conv_bn(width, width)
        self.relu = nn.ReLU(inplace=True)
        self.head = Head(width)
        self.expected_sites = {"bn3": (width, 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(x)))
        out = self.bn3(self.conv3(out))
        out += x
        return self.head(self.relu(out))


class SharedBlock(nn.Module):
    """One residual block called three times: one site, three maps."""

    def __init__(self, width: int = 16, calls: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn_relu(3, width))
        self.block = FunctionalBasicBlock(width, width)
        self.head = Head(width)
        self.calls = calls
        self.expected_sites = {"block.bn2": (width, 1)}
        self.expected_calls = calls

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.calls):
            x = F.max_pool2d(self.block(x), 2)
        return self.head(x)


class SharedNorm(nn.Module):
    """Two residual branches that end in one and the same norm."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn_relu(3, width))
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = Head(width)
        self.expected_sites = {"norm": (width, 1)}
        self.expected_calls = 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.norm(self.conv1(x)))
        return self.head(F.relu(x + self.norm(self.conv2(x))))


class TwoInputs(nn.Module):
    """An image and a vector."""

    def __init__(self, width: int = 16, features: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn_relu(3, width))
        self.block = FunctionalBasicBlock(width, width)
        self.embed = nn.Linear(features, width)
        self.head = Head(width)
        self.expected_sites = {"block.bn2": (width, 1)}
        self.example = (torch.zeros(1, 3, 16, 16), torch.zeros(1, features))

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        x = self.stem(image) * self.embed(vector)[:, :, None, None]
        return self.head(self.block(x))


class _ChannelsLastBlock(nn.Module):
    def __init__(self, width: int, scale: str) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = scale
        self.gamma = nn.Parameter(torch.full((width,), 0.5))
        if scale == "module":
            self.layer_scale = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        out = self.down(F.gelu(self.up(out)))
        if self.scale == "functional":
            out = self.gamma * out
        elif self.scale == "module":
            out = self.layer_scale(out)
        return x + out.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class ChannelsLast(nn.Sequential):
    """ConvNeXt's block: NHWC inside, with no layer scale, a functional one, or one in a module."""

    def __init__(self, width: int = 16, scale: str = "functional") -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, 4), _ChannelsLastBlock(width, scale), _ChannelsLastBlock(width, scale), Head(width)
        )
        self.expected_sites = {"1.down": (width, 1), "2.down": (width, 1)}


class FunctionalSE(nn.Module):
    """A block that gates its branch in its own forward; `spelling` says how the squeeze and the layers are written."""

    def __init__(self, width: int = 16, reduction: int = 4, spelling: str = "mean") -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(width, width)
        self.conv2, self.bn2 = conv_bn(width, width)
        hidden = width // reduction
        self.spelling = spelling
        linear = spelling != "conv"
        self.fc1 = nn.Linear(width, hidden) if linear else nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Linear(hidden, width) if linear else nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.spelling == "conv":
            gate = torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(out, 1)))))
        else:
            squeezed = out.mean((2, 3)) if self.spelling == "mean" else F.adaptive_avg_pool2d(out, 1).flatten(1)
            gate = torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed))))[:, :, None, None]
        return F.relu(out * gate + x)


class FunctionalSENet(nn.Sequential):
    def __init__(self, width: int = 16, spelling: str = "mean") -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), FunctionalSE(width, 4, spelling), Head(width))
        self.expected_sites = {"1.bn2": (width, 1)}


class ModuleSE(nn.Module):
    """SE as a module, in one of three spellings."""

    def __init__(self, width: int, reduction: int = 4, spelling: str = "mean") -> None:
        super().__init__()
        hidden = width // reduction
        self.spelling = spelling
        self.pool, self.gate, self.relu = nn.AdaptiveAvgPool2d(1), nn.Sigmoid(), nn.ReLU()
        self.fc1 = nn.Conv2d(width, hidden, 1) if spelling == "conv" else nn.Linear(width, hidden)
        self.fc2 = nn.Conv2d(hidden, width, 1) if spelling == "conv" else nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "conv":
            return x * self.gate(self.fc2(self.relu(self.fc1(self.pool(x)))))
        squeezed = x.mean((2, 3)) if self.spelling == "mean" else self.pool(x).view(x.shape[0], -1)
        gate = self.gate(self.fc2(self.relu(self.fc1(squeezed))))
        return x * gate.view(*gate.shape, 1, 1).expand_as(x)


class _NativeSEBlock(FunctionalBasicBlock):
    def __init__(self, width: int, spelling: str) -> None:
        super().__init__(width, width)
        self.se = ModuleSE(width, 4, spelling)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.se(x=self.bn2(self.conv2(out))) + x) if self.spelled_by_name else F.relu(
            self.se(self.bn2(self.conv2(out))) + x)

    spelled_by_name = False


class NativeSE(nn.Sequential):
    """A network that ships with SE."""

    def __init__(self, width: int = 16, spelling: str = "mean", by_name: bool = False) -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), _NativeSEBlock(width, spelling), Head(width))
        self[1].spelled_by_name = by_name
        self.expected_sites = {"1.bn2": (width, 1)}
        self.expected_native = ["1.se"]


class PlainNet(nn.Sequential):
    """VGG-like: the root is a Sequential and there is nothing but convolutions and pooling."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            *conv_bn_relu(3, width), *conv_bn_relu(width, width), nn.MaxPool2d(2), *conv_bn_relu(width, 2 * width),
            nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
        )
        self.expected_sites = {"2": (width, 1), "5": (width, 1), "9": (2 * width, 2)}
        self.expected_stage_sites = {"5": (width, 1), "9": (2 * width, 2)}


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Nested(nn.Sequential):
    """Sequential in Sequential everywhere; the branch ends in a Sequential that ends in an empty one."""

    def __init__(self, width: int = 16) -> None:
        branch = nn.Sequential(
            nn.Sequential(*conv_bn_relu(width, width)), nn.Sequential(*conv_bn(width, width), nn.Sequential())
        )
        super().__init__(
            nn.Sequential(*conv_bn_relu(3, width)), nn.Sequential(Residual(branch)), nn.Sequential(Head(width))
        )
        self.expected_sites = {"1.0.branch.1.1": (width, 1)}


class LoopsOverChildren(nn.Module):
    """A branch that runs whatever children it has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = conv_bn(width, width)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x + 1.0


class Looping(nn.Sequential):
    def __init__(self, width: int = 16) -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), Residual(LoopsOverChildren(width)), Head(width))
        self.expected_sites = {"1.branch": (width, 1)}


class _DenseLayer(nn.Module):
    def __init__(self, into: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(into), nn.Conv2d(into, growth, 3, padding=1, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.conv(F.relu(self.norm(torch.cat(maps, 1))))


class DenseNetLike(nn.Module):
    def __init__(self, width: int = 8, growth: int = 4, layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.layers = nn.ModuleList(_DenseLayer(width + index * growth, growth) for index in range(layers))
        self.head = Head(width + layers * growth)
        self.expected_sites = {f"layers.{index}.conv": (growth, 1) for index in range(layers)}

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(layer(maps))
        return self.head(torch.cat(maps, 1))


class _RepVggBlock(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv3, self.bn3 = conv_bn(into, out, 3, stride)
        self.conv1, self.bn1 = conv_bn(into, out, 1, stride)
        self.identity = nn.BatchNorm2d(into) if into == out and stride == 1 else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv3(x)) + self.bn1(self.conv1(x))
        return self.act(out if self.identity is None else out + self.identity(x))


class RepVggLike(nn.Sequential):
    """Sums of parallel convolutions: no residual branch among them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Sequential(*conv_bn_relu(3, width, 3, 2)), _RepVggBlock(width, width, 1),
            _RepVggBlock(width, 2 * width, 2), Head(2 * width),
        )
        self.expected_sites = {"1.act": (width, 1), "2.act": (2 * width, 2)}


class _InceptionBlock(nn.Module):
    def __init__(self, into: int, each: int) -> None:
        super().__init__()
        self.one = nn.Sequential(*conv_bn_relu(into, each, 1))
        self.three = nn.Sequential(*conv_bn_relu(into, each, 1), *conv_bn_relu(each, each))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), *conv_bn_relu(into, each, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.pool(x)], 1)


class InceptionLike(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(
            *conv_bn_relu(3, width, 3, 2), *conv_bn_relu(width, width), _InceptionBlock(width, width),
            _InceptionBlock(3 * width, width), Head(3 * width),
        )
        ends = ("one.2", "three.2", "three.5", "pool.3")  # the two convolutions of the stem are not counted
        self.expected_sites = {f"{block}.{end}": (width, 1) for block in (6, 7) for end in ends}


class UNetLike(nn.Module):
    """Additive skips from encoder to decoder over `kind` of upsampling: no residual branch."""

    def __init__(self, width: int = 8, kind: str = "interpolate") -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.kind = kind
        self.up = nn.ConvTranspose2d(width, width, 2, 2) if kind == "transposed" else nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        self.expected_sites = {"enter": (width, 1), "middle": (width, 2), "up": (width, 1), "last": (3, 1)}

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enter(x))
        deep = F.relu(self.middle(F.relu(self.down(skip))))
        if self.kind == "interpolate":
            deep = F.interpolate(deep, scale_factor=2.0)
        return self.last(self.up(deep) + skip)


class _GRNBlock(nn.Module):
    """ConvNeXt V2: global response normalisation adds a map to itself inside the branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.gamma = nn.Parameter(torch.ones(1, 2 * width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = F.gelu(self.up(self.dwconv(x)))
        energy = out.pow(2).sum((2, 3), keepdim=True).sqrt()
        out = out + self.gamma * (out * (energy / (energy.mean(1, keepdim=True) + 1e-6)))
        return x + self.down(out)


class GRNNet(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Conv2d(3, width, 4, 4), _GRNBlock(width), Head(width))
        self.expected_sites = {"1.down": (width, 1)}


class _Res2NetBlock(nn.Module):
    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Sequential(*conv_bn_relu(width, width, 1)), nn.Sequential(*conv_bn(width, width, 1))
        part = width // parts
        self.convs = nn.ModuleList(nn.Sequential(*conv_bn_relu(part, part)) for _ in range(parts - 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.enter(x).chunk(len(self.convs) + 1, 1)
        done = [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            done.append(conv(part if len(done) == 1 else part + done[-1]))
        return F.relu(self.leave(torch.cat(done, 1)) + x)


class Res2NetLike(nn.Sequential):
    def __init__(self, width: int = 16, parts: int = 4) -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), _Res2NetBlock(width, parts), Head(width))
        self.expected_sites = {"1.leave.1": (width, 1)}


class _SwiGLUBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.BatchNorm2d(width), nn.Conv2d(width, 4 * width, 1)
        self.down = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, out = self.up(self.norm(x)).chunk(2, 1)
        return x + self.down(F.silu(gate) * out)


class SwiGLUNet(nn.Sequential):
    """A gate without a squeeze: no attention."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), _SwiGLUBlock(width), Head(width))
        self.expected_sites = {"1.down": (width, 1)}


class InvertedResidual(nn.Module):
    def __init__(self, into: int, out: int, stride: int = 1, expansion: int = 4) -> None:
        super().__init__()
        wide = expansion * into
        self.expand = nn.Sequential(*conv_bn_relu(into, wide, 1))
        self.depthwise = nn.Sequential(*conv_bn_relu(wide, wide, 3, stride, wide))
        self.project = nn.Sequential(*conv_bn(wide, out, 1))
        self.adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.adds else out


class TinyMBConv(nn.Sequential):
    """Two inverted residuals, the second strides."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Sequential(*conv_bn_relu(3, width, 3, 2)), InvertedResidual(width, width),
            InvertedResidual(width, 2 * width, 2), Head(2 * width),
        )
        self.expected_sites = {"1.depthwise.2": (4 * width, 1), "2.depthwise.2": (4 * width, 2)}


class DataDependent(nn.Module):
    """Control flow that looks at values, and constants made on the CPU: only real tensors will do."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = FunctionalBasicBlock(width, width)
        self.head = Head(width)
        self.expected_sites = {"block.bn2": (width, 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + torch.arange(x.shape[-1], dtype=x.dtype)
        if x.abs().sum().item() > 0:
            x = self.block(x)
        return self.head(x)


@dataclass
class Scores:
    scores: Tensor
    features: Tensor


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As transformers': a dictionary with attributes."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class OddOutputs(nn.Module):
    """A ResNet whose result is a container of the kind named."""

    def __init__(self, kind: str, width: int = 16) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = FunctionalBasicBlock(width, width)
        self.head = Head(width)
        self.expected_sites = {"block.bn2": (width, 1)}

    def forward(self, x: Tensor) -> object:
        features = self.block(self.stem(x))
        scores = self.head(features)
        kinds = {
            "tuple": (scores, features), "list": [scores, features], "dict": {"scores": scores, "features": features},
            "model output": ModelOutput(scores=scores, features=features), "dataclass": Scores(scores, features),
        }
        return kinds[self.kind]


class BlockWithTwoResults(nn.Module):
    """A block that hands on a pair, the map second or first."""

    def __init__(self, kind: type, width: int = 8) -> None:
        super().__init__()
        self.conv, self.norm = conv_bn(width, width)
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        out = self.norm(self.conv(x)) * 1.0 + 0.0
        state = x.mean((1, 2, 3))
        return {"state": state, "map": out} if self.kind is dict else self.kind((state, out))


class NoConvolution(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, 10))
        self.expected_sites: dict[str, tuple[int, int]] = {}


class Broken(nn.Sequential):
    """Raises in forward, after having changed what it can."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        torch.rand(1)
        super().forward(x)
        raise RuntimeError("this network\nnever works")


class UserHooks(TinyResNet):
    """A ResNet with hooks of the user's own; each counts its calls and one changes the map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1.bn2.register_forward_hook(_double)
        self.layer1.conv1.register_forward_pre_hook(_keep)


def _double(module: nn.Module, args: object, output: Tensor) -> Tensor:
    return output * 2


def _keep(module: nn.Module, args: object) -> None:
    return None


class TiedWeights(nn.Module):
    """Two convolutions with one weight."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.second.weight = self.first.weight
        self.head = Head(width)
        stem = conv_params(3, width, 3, bias=True)
        self.expected_params = stem + conv_params(width, width, 3) + width * 10 + 10
        self.expected_sites = {"second": (width, 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.second(F.relu(self.first(x))))


class Parametrized(nn.Module):
    """Weight-normed and spectral-normed convolutions."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = parametrizations.weight_norm(nn.Conv2d(width, width, 3, padding=1))
        self.second = parametrizations.spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.head = Head(width)
        self.expected_sites = {"second": (width, 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.second(F.relu(self.first(x))))


class InPlace(nn.Module):
    """Writes into tensors wherever it can, into a slice too (FasterNet's partial convolution)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.part = nn.Conv2d(width // 4, width // 4, 3, padding=1)
        self.last = nn.Conv2d(width, width, 1)
        self.head = Head(width)
        self.quarter = width // 4
        self.expected_sites = {"last": (width, 1)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu_()
        out = x.clone()
        out[:, : self.quarter] = self.part(out[:, : self.quarter])
        out = self.last(out)
        out.add_(x)
        return self.head(out)


class ChangesBuffers(TinyResNet):
    """Counts its calls in a buffer, remembers a grid, and fills a list, as it runs."""

    def __init__(self, on_cpu: bool = False) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.on_cpu = on_cpu
        self.grid: Tensor | None = None
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        if self.grid is None:
            self.grid = torch.zeros(1, 1, *x.shape[2:], device=None if self.on_cpu else x.device)
        self.seen.append(x)
        return super().forward(x + self.grid)


class GreyScale(nn.Sequential):
    def __init__(self, channels: int = 1) -> None:
        super().__init__(nn.Conv2d(channels, 8, 3, padding=1), FunctionalBasicBlock(8, 8), Head(8))
        self.expected_sites = {"1.bn2": (8, 1)}


class HardSwish(nn.Module):
    """An activation whose last operation is a division by a number: no layer scale."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


class RMSNorm2d(nn.Module):
    """A norm written out, which ends in its own weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * self.weight


class WrittenOutEnds(nn.Sequential):
    """Residual branches that end in a written-out activation or norm."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1), Residual(nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), HardSwish())),
            Residual(nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), RMSNorm2d(width))), Head(width),
        )
        self.expected_sites = {"1.branch.1": (width, 1), "2.branch.1": (width, 1)}
