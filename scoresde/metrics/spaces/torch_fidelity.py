"""Feature extractors of torch-fidelity."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.files import digest_of
from scoresde.metrics.spaces import scripts
from scoresde.metrics.spaces.space import as_rgb, in_batches, pixels_of
from solvers.errors import nearest

INCEPTION = "inception-v3-compat"


class Fidelity:
    """A feature extractor of torch-fidelity, which resizes images itself (bilinear, as TensorFlow 1 did it).

    Grey images are given as three equal channels.

    Args:
        model: its name in torch-fidelity.
        weights: a file of weights in the form that torch-fidelity takes; None lets it load its own.
        trust: whether a file of CLIP's, which is TorchScript, may hold any operator.
        device: where it runs.

    Raises:
        ImportError: torch-fidelity or torchvision is not installed or does not load.
        ValueError: an unknown model, or weights that it cannot take.
    """

    def __init__(
        self, model: str, weights: str | Path | None = None, *, trust: bool = False, device: str | torch.device = "cpu"
    ):
        extractors = _registry()
        if model not in extractors:
            raise ValueError(f"torch-fidelity has no model {model!r}{nearest(model, extractors)}")
        source = None if weights is None else _checked(model, Path(weights).expanduser(), trust)
        if source is None and model == INCEPTION:
            _download_inception()
        kind = extractors[model]
        layer = kind.get_default_feature_layer_for_metric("fid")
        try:
            network = kind(model, [layer], feature_extractor_weights_path=source)
        except Exception as error:  # of other weights anything may come
            where = "by its own download" if weights is None else f"from {str(weights)!r}"
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"torch-fidelity cannot load {model} {where}: {reason}") from error
        self.device = torch.device(device)
        self.network: Any = network.to(self.device).eval().requires_grad_(False)
        self.resize = int(getattr(network, "resolution", 0) or network.INPUT_IMAGE_SIZE)
        self.name = f"{model} of torch-fidelity ({_digest(network)}), resized to {self.resize}×{self.resize} (bilinear)"
        self.size = self.network(torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=self.device))[0].shape[1]

    def __str__(self) -> str:
        return self.name

    def features(self, images: Tensor) -> Tensor:
        """Features (n, size), as :class:`~scoresde.metrics.spaces.space.Space` has it, of images of 1 or 3 channels.

        Raises:
            ValueError: another number of channels, another dtype, or a state that is not finite.
        """
        pixels = as_rgb(self.name, pixels_of(images))
        return in_batches(lambda batch: self.network(batch)[0], pixels, self.device)


def _registry() -> dict[str, Any]:
    try:
        # Without torchvision's compiled operators beside this torch, importing it raises RuntimeError.
        from torch_fidelity import registry  # type: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "Inception, DINOv2 and CLIP features come from torch-fidelity: install scoresde[inception] in an "
            f"environment whose torch and torchvision are of one build ({error})"
        ) from error
    return registry.FEATURE_EXTRACTORS_REGISTRY


def _checked(model: str, path: Path, trust: bool) -> str | io.BytesIO:
    """What torch-fidelity, which would unpickle and load anything, is to load: what was looked at, or tensors alone."""
    if not path.is_file():
        raise ValueError(f"no weights of {model} at {str(path)!r}")
    if model.startswith("clip-"):  # a TorchScript archive
        return scripts.source(path, trust)
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file anything may come
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{str(path)!r} does not hold weights and nothing else: {reason}") from error
    return str(path)


def _download_inception() -> None:
    """Put the file into torch.hub's cache by its hash and as tensors alone; torch-fidelity checks neither."""
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[reportMissingImports]
        URL_INCEPTION_V3,
    )

    torch.hub.load_state_dict_from_url(URL_INCEPTION_V3, map_location="cpu", check_hash=True, weights_only=True)


def _digest(network: nn.Module) -> str:
    """Start of the SHA-256 of all parameters and buffers, by name: the same for a file and for a download."""
    weights = sorted(network.state_dict().items())
    return digest_of(key.encode() + value.detach().cpu().contiguous().numpy().tobytes() for key, value in weights)[:8]
