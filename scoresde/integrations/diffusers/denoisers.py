"""Networks of diffusers behind the call that score models make; needs no diffusers itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.files.bundled import CheckpointError
from solvers.errors import nearest

Shape = tuple[int, int, int]


class Denoiser(nn.Module):
    """A network of diffusers, called as ``net(x, t, **cond)`` with the network's own names for conditions.

    x has shape (batch, channels, height, width); t has shape (batch,), in the network's units. ``cond`` may be nested
    (``added_cond_kwargs``); its floating-point tensors are cast to the network's precision. ``label`` is another name
    for ``class_labels``. Of a network that predicts a variance in a second half of its channels, the first half counts.

    Raises:
        TypeError: a condition that the network does not have (the nearest is named).
        ValueError: a class-conditional network without a label for "no label" is given none.
    """

    state = "hidden_states"  # what the network calls x
    made = frozenset[str]()  # arguments that this class gives by itself
    flow = False  # whether such networks predict flow velocities and nothing else

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        own = {self.state, "timestep", "return_dict", *self.made}
        self.conditions = [name for name in inspect.signature(self.inner.forward).parameters if name not in own]

    @property
    def inner(self) -> nn.Module:
        """The network without what wraps it."""
        return unwrapped(self.net)

    @property
    def kind(self) -> str:
        """The network's class."""
        return class_of(self.net)

    @property
    def config(self) -> Mapping[str, Any]:
        """The network's configuration."""
        return self.inner.config  # type: ignore[return-value]

    @property
    def channels(self) -> int:
        """Channels of x."""
        return int(self.config["in_channels"])

    @property
    def out_channels(self) -> int:
        """Channels that the network returns; None in its configuration means as many as it takes."""
        return int(self.config.get("out_channels") or self.config["in_channels"])

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that the network was trained on, where its configuration says.

        Raises:
            CheckpointError: it says something else.
        """
        size = self.config.get("sample_size")
        if size is None:
            return None
        sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        if len(sides) != 2 or not all(type(side) is int and 0 < side < 2**16 for side in sides):
            raise CheckpointError(f"{self.kind} has sample_size = {size!r:.60}, which is no height and width")
        return sides

    @property
    def patch(self) -> int:
        """Side of the squares of a state that are one token.

        Raises:
            CheckpointError: its configuration does not say a size.
        """
        patch = self.config.get("patch_size") or 1
        if type(patch) is not int or not 0 < patch < 2**16:
            raise CheckpointError(f"{self.kind} has patch_size = {patch!r:.60}, which is no size")
        return patch

    def example(self) -> dict[str, Any] | None:
        """Conditions of the shapes that the network takes, for one state; None where that is not known.

        They hold no numbers: they serve to find settings that contradict each other.
        """
        return None

    @property
    def needed(self) -> list[str]:
        """Conditions beside classes without which the network cannot be called."""
        found = self.example() or {}
        return [name for name, value in found.items() if name != "class_labels" and _holds(value)]

    @property
    def classes(self) -> int:
        """Number of classes, 0 for none."""
        return 0

    @property
    def label_count(self) -> int | None:
        """Labels that it knows, the one for "no label" included; None without classes."""
        return self.classes + (self.no_label is not None) if self.classes else None

    @property
    def no_label(self) -> int | None:
        """The label that stands for none, if there is one."""
        return None

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, **cond: Any) -> Tensor:
        if label is not None:
            cond["class_labels"] = label
        for name in cond:
            if name not in self.conditions:
                raise TypeError(f"{self.kind} has no condition {name!r}{nearest(name, self.conditions)}")
        if self.classes and cond.get("class_labels") is None:
            if self.no_label is None:
                raise ValueError(f"{self.kind} has {self.classes} classes, and none for no label: give one")
            cond["class_labels"] = torch.full((len(x),), self.no_label, device=x.device)
        return self._call(x, t, _cast(cond, x.dtype))[:, : x.shape[1]]

    def _call(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        return self.net(**{self.state: x}, timestep=t, return_dict=False, **cond)[0]


class UNetDenoiser(Denoiser):
    """UNet2DModel and UNet2DConditionModel."""

    state = "sample"

    @property
    def classes(self) -> int:
        kind = self.config.get("class_embed_type")
        return int(self.config.get("num_class_embeds") or 0) if kind is None else 0

    def example(self) -> dict[str, Any] | None:
        config, added = self.config, self.config.get("addition_embed_type")
        if config.get("class_embed_type") or config.get("encoder_hid_dim_type") or added not in (None, "text_time"):
            return None
        cond: dict[str, Any] = {"class_labels": torch.zeros(1, dtype=torch.long)} if self.classes else {}
        if "encoder_hidden_states" in self.conditions:
            width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
            cond["encoder_hidden_states"] = torch.empty(1, 2, width[0] if isinstance(width, (list, tuple)) else width)
        if added == "text_time":
            width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
            cond["added_cond_kwargs"] = {"text_embeds": torch.empty(1, width), "time_ids": torch.empty(1, 6)}
        return cond


class DiTDenoiser(Denoiser):
    """DiTTransformer2DModel, whose last class is "no label"."""

    @property
    def classes(self) -> int:
        return int(self.config["num_embeds_ada_norm"])

    @property
    def no_label(self) -> int | None:
        return self.classes

    def example(self) -> dict[str, Any] | None:
        return {}


class PixArtDenoiser(Denoiser):
    """PixArtTransformer2DModel."""

    def example(self) -> dict[str, Any] | None:
        sizes = {"resolution": torch.empty(1, 2), "aspect_ratio": torch.empty(1, 1)}
        return {
            "encoder_hidden_states": torch.empty(1, 2, self.config["caption_channels"]),
            "added_cond_kwargs": sizes
            if self.inner.use_additional_conditions
            else {"resolution": None, "aspect_ratio": None},
        }


class SD3Denoiser(Denoiser):
    """SD3Transformer2DModel."""

    flow = True

    def example(self) -> dict[str, Any] | None:
        return {
            "encoder_hidden_states": torch.empty(1, 2, self.config["joint_attention_dim"]),
            "pooled_projections": torch.empty(1, self.config["pooled_projection_dim"]),
        }


class FluxDenoiser(Denoiser):
    """FluxTransformer2DModel on (batch, channels, height, width), height and width even.

    It sees squares of 2 × 2 as tokens, with their rows and columns as rotary positions, which are made here.
    """

    made = frozenset({"img_ids", "txt_ids"})
    flow = True

    @property
    def channels(self) -> int:
        return int(self.config["in_channels"]) // 4

    @property
    def out_channels(self) -> int:
        return int(self.config.get("out_channels") or self.config["in_channels"]) // 4

    def example(self) -> dict[str, Any] | None:
        guided = {"guidance": torch.ones(1)} if self.config.get("guidance_embeds") else {}
        return {
            "encoder_hidden_states": torch.empty(1, 2, self.config["joint_attention_dim"]),
            "pooled_projections": torch.empty(1, self.config["pooled_projection_dim"]),
            **guided,
        }

    def _call(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        height, width = x.shape[2] // 2, x.shape[3] // 2
        tokens = nn.functional.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        positions = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3)
        text = torch.zeros(cond["encoder_hidden_states"].shape[1], 3)
        out = self.net(
            hidden_states=tokens,
            timestep=t / 1000,  # which the network multiplies by 1000 again
            img_ids=positions.to(x),
            txt_ids=text.to(x),
            return_dict=False,
            **cond,
        )[0]
        return nn.functional.pixel_shuffle(out.transpose(1, 2).unflatten(2, (height, width)), 2)


WRAPPED = ("_orig_mod", "module", "_fsdp_wrapped_module")  # as torch.compile, parallel and sharded modules hold theirs


def unwrapped(net: nn.Module) -> nn.Module:
    """The network that was compiled, made parallel or sharded; itself if it was not."""
    inner: nn.Module | None = net
    while inner is not None:
        net = inner
        inner = next((found for name in WRAPPED if isinstance(found := getattr(net, name, None), nn.Module)), None)
    return net


def class_of(net: nn.Module) -> str:
    """Name of the class of a network that may be wrapped: of those it derives from, one that is known before others."""
    names = [kind.__name__ for kind in type(unwrapped(net)).__mro__]  # fully_shard puts a class of its own before
    return next((name for name in names if name in DENOISERS), names[0])


LEGACY = "Transformer2DModel"  # as which early checkpoints of DiT and PixArt name their networks
DENOISERS: dict[str, type[Denoiser]] = {
    "UNet2DModel": UNetDenoiser,
    "UNet2DConditionModel": UNetDenoiser,
    "DiTTransformer2DModel": DiTDenoiser,
    "PixArtTransformer2DModel": PixArtDenoiser,
    "SD3Transformer2DModel": SD3Denoiser,
    "FluxTransformer2DModel": FluxDenoiser,
}


def _holds(value: Any) -> bool:
    """Whether a condition is one: a mapping of nothing is none."""
    return any(map(_holds, value.values())) if isinstance(value, Mapping) else value is not None


def _cast(cond: Any, dtype: torch.dtype) -> Any:
    if isinstance(cond, Tensor):
        return cond.to(dtype) if cond.is_floating_point() else cond
    if isinstance(cond, Mapping):
        return {key: _cast(value, dtype) for key, value in cond.items()}
    if isinstance(cond, (list, tuple)):
        return type(cond)(_cast(value, dtype) for value in cond)
    return cond
