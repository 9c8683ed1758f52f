"""Pipelines of text in folders, as checkpoints whose classes are prompts.

checkpoint = scoresde.models.from_pipeline("stable-diffusion", ["a red cat", "two dogs"])
result = scoresde.sample(checkpoint, "dpmpp_2m", nfe=10, seeds=range(2), cond={"label": torch.tensor([0, 1])})
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scoresde.conditions import SCALE
from scoresde.integrations.diffusers.asking import Asking, PipelineNetwork
from scoresde.integrations.diffusers.conventions import Trained
from scoresde.integrations.diffusers.denoisers import DENOISERS, class_of
from scoresde.integrations.diffusers.loading import checked, shifted
from scoresde.integrations.diffusers.repository import ENCODERS, TOKENIZERS, Pipeline, Source, quiet
from scoresde.networks.checkpoint import Checkpoint
from scoresde.networks.described import CheckpointError
from scoresde.score import ScoreModel

RESCALE, NEGATIVE = "guidance_rescale", "negative_prompt"
LARGEST = 2**14  # side of an image


@dataclass(frozen=True)
class Family:
    """What is particular to a class of pipelines.

    Attributes:
        encoded: what its ``encode_prompt`` returns, by the names under which its call takes it; "" for what it does
            not take.
        multiple: sides of images are multiples of it, and of ``patch`` states.
        patch: states in a token, along a side.
        size: side of the states, where the network's configuration does not say.
        guided: whether it is guided by two evaluations of the network, otherwise the network is told the scale.
        packed: whether it steps tokens.
        encoding, call: further arguments of ``encode_prompt`` and of its call.
    """

    encoded: tuple[str, ...]
    multiple: int = 1
    patch: int = 1
    size: int | None = None
    guided: bool = True
    packed: bool = False
    encoding: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


_PAIR = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PAIR, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_PIXART = Family(
    ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"),
    multiple=8,
    patch=2,
    encoding={"clean_caption": True},
    call={NEGATIVE: None, "use_resolution_binning": False},  # the size that is asked for is the size
)
PIPELINES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(_PAIR, multiple=8),
    "StableDiffusionXLPipeline": Family(_POOLED, multiple=8),
    "StableDiffusion3Pipeline": Family(_POOLED, patch=2),
    "FluxPipeline": Family(("prompt_embeds", "pooled_prompt_embeds", ""), patch=2, size=128, guided=False, packed=True),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "LatentConsistencyModelPipeline": Family(("prompt_embeds", ""), multiple=8, guided=False),
}


def from_pipeline(
    source: str,
    prompts: str | Sequence[str],
    *,
    negative: str | Sequence[str] | None = None,
    height: int | None = None,
    width: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    variant: str | None = None,
) -> Checkpoint:
    """A pipeline of diffusers with its prompts, ready to sample from: a model whose class i is prompt i.

    The model's output is what the pipeline hands its scheduler, which is run for it at every state: networks, guidance
    and embeddings are what the pipeline makes them. Prompts are encoded once, by the pipeline's ``encode_prompt``, and
    text encoders are not kept. Checkers of images are not loaded.

    Args:
        source: a folder or hub id of a pipeline that is in :data:`PIPELINES`.
        prompts: one or more.
        negative: what images are pushed away from, for all prompts or one for each; None is what the pipeline does.
        height, width: of the images in pixels; None is what the pipeline makes.
        device, dtype: of its networks.
        revision, variant: as for :func:`scoresde.models.from_diffusers`.

    Returns:
        The model, called with ``label`` of shape (batch,), the number of each sample's prompt; ``called`` of it has
        another guidance than the pipeline's own. With the decoder, and the prompts as names of classes.

    Raises:
        CheckpointError: nothing there, a pipeline that is not known, or parts that are not understood (named).
        ValueError: no prompts, or not as many negative ones; a size that the pipeline cannot make.
        ImportError: diffusers or transformers is not installed.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    against = [negative] if isinstance(negative, str) else None if negative is None else list(negative)
    opened = Source(source, revision, variant)
    family = _family(opened)
    _check_texts(opened, texts, against)
    sides = _sides(opened, family, height, width)
    parts = opened.pipeline(dtype)
    if parts.vae is None:
        raise CheckpointError(f"{parts.name} has no autoencoder, and a {opened.kind} decodes its images by one")
    factor, channels = _factor(opened), int(parts.vae.config["latent_channels"])  # type: ignore[index]
    states = (channels, sides[0] // factor, sides[1] // factor)
    trained, latents = checked(parts, states)
    assert latents is not None
    for part in (parts.network, parts.vae, *(parts.texts[name] for name in ENCODERS)):
        if part is not None:
            part.to(device)
    pipe, asking = _assembled(opened.made, parts)
    rows = _encoded(pipe, family, texts, against)
    for name in (*ENCODERS, *TOKENIZERS):
        if name in pipe.components:
            pipe.register_modules(**{name: None})
    height, width = sides
    options = {"height": height, "width": width, "output_type": "latent", "return_dict": False, **family.call}
    network = Prompted(pipe, asking, rows, options, family, len(texts))
    kind = class_of(parts.network)
    card = {"source": parts.name, "pipeline": opened.kind, "network": kind, "class_names": texts}
    return Checkpoint(
        model=PipelineModel(network, trained),
        shape=states,
        classes=len(texts),
        card={**card, "scheduler": parts.scheduler, "prediction": trained.prediction},
        decode=latents.decode,
        encode=latents.encode,
        grid=shifted(trained, parts.scheduler, states, DENOISERS[kind](parts.network).patch),
    )


def of_text(source: str, revision: str | None = None, variant: str | None = None) -> str | None:
    """The class of a pipeline that takes prompts; None for what is no pipeline, or one that takes none."""
    try:
        opened = Source(source, revision, variant)
    except (CheckpointError, ImportError):
        return None
    return opened.kind if opened.kind in PIPELINES and set(opened.parts) & set(ENCODERS) else None


def _family(opened: Source) -> Family:
    if opened.kind not in PIPELINES:
        raise CheckpointError(
            f"{opened.name} is a {opened.kind:.80}, and the pipelines that are run with prompts are "
            f"{', '.join(PIPELINES)}"
        )
    if not set(opened.parts) & set(ENCODERS):
        raise CheckpointError(f"{opened.name} has no text encoder in its index, and so takes no prompt")
    return PIPELINES[opened.kind]


def _check_texts(opened: Source, texts: Sequence[Any], against: Sequence[Any] | None) -> None:
    if not texts:
        raise ValueError("there is no prompt: give one or more")
    for text in (*texts, *(against or ())):
        if not isinstance(text, str):
            raise ValueError(f"a prompt is a text, got {text!r}")
    if against is None:
        return
    if len(against) not in (1, len(texts)):
        raise ValueError(f"there must be one negative prompt, or one for each of {len(texts)}; got {len(against)}")
    if NEGATIVE not in inspect.signature(opened.made.encode_prompt).parameters or not PIPELINES[opened.kind].guided:
        raise ValueError(f"{opened.kind} has no guidance by a second evaluation, and so takes no negative prompt")


def _factor(opened: Source) -> int:
    """Pixels of a state, along a side."""
    widths = opened.config("vae").get("block_out_channels")
    if not isinstance(widths, list) or not 0 < len(widths) < 16:
        raise CheckpointError(
            f"the autoencoder of {opened.name} has no block_out_channels, which say how images shrink"
        )
    return 2 ** (len(widths) - 1)


def _sides(opened: Source, family: Family, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width of images.

    Raises:
        ValueError: sides that the pipeline cannot make.
        CheckpointError: its configuration does not say them.
    """
    factor = _factor(opened)
    unit = math.lcm(family.multiple, factor * family.patch)
    network = next((opened.config(name) for name in ("unet", "transformer") if name in opened.parts), {})
    own = network.get("sample_size") or family.size
    pair = own if isinstance(own, list) and len(own) == 2 else (own, own)
    found = []
    for name, given, side in (("height", height, pair[0]), ("width", width, pair[1])):
        if given is None:
            if type(side) is not int or not 0 < side < LARGEST:
                raise CheckpointError(f"{opened.name} does not say its size: give height= and width=")
            given = side * factor
        if type(given) is not int or not 0 < given <= LARGEST or given % unit:
            below = max(int(given) // unit, 1) * unit if isinstance(given, (int, float)) else unit
            raise ValueError(
                f"{name} must be a multiple of {unit} up to {LARGEST} for {opened.kind}, got {given!r}; near it is "
                f"{min(below, LARGEST)}"
            )
        found.append(given)
    return found[0], found[1]


def _assembled(made: Any, parts: Pipeline) -> tuple[Any, Asking]:
    """The pipeline of that class with these parts, and a scheduler that asks."""
    asking = Asking.from_config(parts.scheduler, solver="euler")
    name = "unet" if "unet" in inspect.signature(made.__init__).parameters else "transformer"
    given = {name: parts.network, "vae": parts.vae, "scheduler": asking, **parts.texts}
    bare = {"safety_checker": None, "feature_extractor": None, "image_encoder": None, "requires_safety_checker": False}
    known = inspect.signature(made.__init__).parameters
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")  # of how its scheduler would sample
        pipe = made(**{key: value for key, value in {**bare, **given}.items() if key in known})
    pipe.set_progress_bar_config(disable=True)
    return pipe, asking


def _encoded(pipe: Any, family: Family, texts: Sequence[str], against: Sequence[str] | None) -> dict[str, Tensor]:
    """What the call takes in the place of prompts, a row for each, one after the other: none depends on another."""
    known = inspect.signature(pipe.encode_prompt).parameters
    common = {"device": pipe._execution_device, "num_images_per_prompt": 1, "prompt_2": None, "prompt_3": None}
    common |= {"do_classifier_free_guidance": family.guided, **family.encoding}
    found: dict[str, list[Tensor]] = {}
    for place, text in enumerate(texts):
        own: dict[str, Any] = {"prompt": text}
        if against is not None:
            own[NEGATIVE] = against[place if len(against) > 1 else 0]
        with torch.no_grad(), quiet():
            out = pipe.encode_prompt(**{key: value for key, value in {**common, **own}.items() if key in known})
        for name, value in zip(family.encoded, out, strict=True):
            if name and value is not None and not (name.startswith("negative") and place and len(against or "1") == 1):
                found.setdefault(name, []).append(value.cpu())
    _warn_of_cut(pipe, [*texts, *(against or ())])
    rows = {name: torch.cat(values) for name, values in found.items()}
    return {name: value.expand(len(texts), *value.shape[1:]) for name, value in rows.items()}


def _warn_of_cut(pipe: Any, texts: Sequence[str]) -> None:
    """Say which prompts are longer than an encoder takes."""
    for name in TOKENIZERS:
        if (words := pipe.components.get(name)) is None:
            continue
        with quiet():
            cut = [text for text in texts if len(words(text).input_ids) > words.model_max_length]
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(texts)} prompts are longer than the {words.model_max_length} tokens of {name} "
                f"and are cut for it, the first {cut[0]!r:.80}",
                PromptWarning,
                stacklevel=3,
            )


class PromptWarning(UserWarning):
    """A prompt that is not taken as it is."""


class Prompted(PipelineNetwork):
    """A pipeline with encoded prompts: what it hands its scheduler for states (batch, channels, height, width).

    ``label`` of shape (batch,) says which prompt each state has.
    """

    def __init__(
        self,
        pipe: Any,
        asking: Asking,
        rows: Mapping[str, Tensor],
        options: Mapping[str, Any],
        family: Family,
        count: int,
    ):
        super().__init__(pipe, asking, rows, options)
        self.family, self.count = family, count

    @property
    def label_count(self) -> int:
        """How many prompts there are."""
        return self.count

    def forward(self, x: Tensor, t: Tensor, label: Tensor, guidance_scale: Tensor | None = None) -> Tensor:
        if not self.family.packed:
            return super().forward(x, t, label, guidance_scale)
        tokens = self.pipe._pack_latents(x, *x.shape)
        out = super().forward(tokens, t, label, guidance_scale)
        sides = self.options["height"], self.options["width"]
        return self.pipe._unpack_latents(out, *sides, self.pipe.vae_scale_factor)


class PipelineModel(ScoreModel):
    """A pipeline as a score model, guided as the pipeline is.

    Args:
        network: asks the pipeline.
        trained: conventions of its scheduler.
        scale: of guidance, 1 for none; None is the pipeline's own. A pair is a range: each sample's own scale is then
            the condition ``guidance_scale``, of shape (batch,).
        rescale: how much of the contrast without guidance is kept, 0 for none.
        low, high: guided where low < σ/α ≤ high.

    Raises:
        ValueError: a guidance that the pipeline does not have.
    """

    def __init__(
        self,
        network: Prompted,
        trained: Trained,
        *,
        scale: float | Sequence[float] | None = None,
        rescale: float = 0.0,
        low: float = 0.0,
        high: float = math.inf,
    ):
        super().__init__(
            network,
            trained.process,
            trained.prediction,
            time_input=trained.time_input,
            **trained.outputs,
        )
        known, kind = inspect.signature(network.pipe.__call__).parameters, type(network.pipe).__name__
        scale = float(known[SCALE].default) if scale is None else scale
        ends = tuple(map(float, scale)) if isinstance(scale, Sequence) else 2 * (float(scale),)
        least = 1.0 if network.family.guided else 0.0
        if not (len(ends) == 2 and least <= ends[0] <= ends[1] < math.inf):
            raise ValueError(f"{kind} is guided at scales of {least:g} and more, or over a range of them, got {scale}")
        if rescale and RESCALE not in known:
            raise ValueError(f"{kind} has no {RESCALE}: take guidance=classifier_free")
        if not 0 <= rescale <= 1:
            raise ValueError(f"{RESCALE} must be from 0 to 1, got {rescale}")
        if not 0 <= low < high:
            raise ValueError(f"guidance needs an interval of σ/α with 0 ≤ low < high, got {low} to {high}")
        if (low, high) != (0, math.inf) and not network.family.guided:
            raise ValueError(f"{kind} is told its scale, which is the same at every noise level: leave low and high")
        self._trained, self.ends, self.low, self.high = trained, ends, float(low), float(high)
        self.net = copy.copy(network)
        self.net.options = {**network.options, SCALE: ends[1], **({RESCALE: rescale} if rescale else {})}
        self.scales = ends if isinstance(scale, Sequence) else None
        told = {SCALE: " to ".join(f"{end:g}" for end in dict.fromkeys(ends))}
        told |= {RESCALE: f"{rescale:g}"} if rescale else {}
        told |= {} if self._everywhere else {"low": f"{low:g}", "high": f"{high:g}"}
        self.guidance = f"{kind}({', '.join(f'{key}={value}' for key, value in told.items())})"

    def called(self, **guidance: Any) -> PipelineModel:
        """The same pipeline under another guidance, given as for the class.

        Raises:
            ValueError: a guidance that the pipeline does not have.
        """
        found = PipelineModel(self.net, self._trained, **guidance)  # type: ignore[arg-type]
        found.noise_scale, found.tuned = self.noise_scale, self.tuned
        return found

    @property
    def scale(self) -> float:
        """The scale of guidance, the upper end of a range."""
        return self.ends[1]

    @property
    def _everywhere(self) -> bool:
        return self.low == 0 and self.high == math.inf

    def output(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """As :meth:`ScoreModel.output`, at scale 1 outside the interval."""
        if not self._everywhere:
            scale = cond.get(SCALE, torch.full((len(x),), self.scale, device=x.device))
            cond[SCALE] = torch.where(self._inside(t, len(x)).to(x.device), scale, torch.ones_like(scale))
        return super().output(x, t, **cond)

    def network_calls(self, t: float | Tensor) -> int | Tensor:
        """Two where the pipeline evaluates its network for guidance too."""
        if not self.net.family.guided or self.scale <= 1:  # type: ignore[union-attr]
            return 1
        if isinstance(t, Tensor) and t.ndim:
            return 1 + self._inside(t, len(t)).long().to(t.device)
        return 1 + int(bool(self._inside(t, 1)))

    def _inside(self, t: float | Tensor, count: int) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64, device="cpu").expand(count)
        level = self.process.sigma(times) / self.process.alpha(times)
        return (self.low < level) & (level <= self.high)
