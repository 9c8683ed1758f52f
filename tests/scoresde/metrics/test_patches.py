"""The network over whitened patches: its first layer, its features, its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from scoresde.metrics import PatchNetwork, load_features, save_features


def pictures(count: int) -> Tensor:
    """States of smooth colour noise with some fine noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = 0.4 * torch.randn(count, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=16, mode="bilinear") + 0.2
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(-1, 1)


def test_the_first_layer_makes_patches_of_unit_covariance_and_their_negatives() -> None:
    x = pictures(200)
    network = PatchNetwork(3, (8, 8, 8))
    network.fit_patches(x)
    with torch.no_grad():
        found = network.patches(x).transpose(0, 1).flatten(1).double()
    assert len(found) == 24 and torch.allclose(found[:12], -found[12:], atol=1e-4)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-3)
    # An eigenvalue below 5e-4 of the mean would show; those of pictures with noise are all above.
    covariance = torch.cov(found[:12]).numpy()
    assert (covariance.diagonal() > 0.8).all() and (covariance.diagonal() < 1.001).all()
    np.testing.assert_allclose(covariance - np.diag(covariance.diagonal()), 0, atol=1e-3)


def test_a_direction_without_variance_is_not_filled_with_rounding() -> None:
    grey = pictures(100)[:, :1].expand(-1, 3, -1, -1)
    network = PatchNetwork(3, (8, 8, 8))
    network.fit_patches(grey)
    with torch.no_grad():
        variances = network.patches(grey).transpose(0, 1).flatten(1).var(1)[:12].sort().values
    assert (variances[:8] < 1e-3).all() and (variances[8:] > 0.8).all()


def test_a_ridge_leaves_small_directions_small() -> None:
    network = PatchNetwork(3, (8, 8, 4))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 4, generator=generator) * torch.tensor([2.0, 1.0, 1.0, 0.0])
    network.whiten(features, ridge=0.1)
    white = (features - network.centre) @ network.whitening
    mean = float(torch.cov(features.T).trace()) / 4
    known = torch.cov(features.T).diagonal()
    np.testing.assert_allclose(torch.cov(white.T).diagonal(), known / (known + 0.1 * mean), rtol=2e-3, atol=1e-6)


def test_a_network_comes_back_from_its_folder_with_weights_of_half_the_size(tmp_path: Path) -> None:
    network = PatchNetwork(3, (8, 16, 12), classes=3)
    network.fit_patches(pictures(50))
    network.round()
    save_features(tmp_path, network, "small", (3, 16, 16), {})
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert all(kinds[f"{name}.weight"] == torch.float16 for name in ("head", "trunk.0", "trunk.2"))
    assert kinds["trunk.0.bias"] == torch.float32  # which float16 does not hold
    loaded = load_features(tmp_path)
    assert all(torch.equal(loaded.network.state_dict()[name], value) for name, value in network.state_dict().items())
    assert {value.dtype for value in loaded.network.parameters()} == {torch.float32}

    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["name"] = "resnet"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its network is 'resnet', not 'patches'"):
        load_features(tmp_path)
