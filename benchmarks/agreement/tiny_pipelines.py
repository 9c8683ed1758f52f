"""Small pipelines of diffusers with random weights, and their networks as score models of our own loop."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scoresde import ScoreModel
from scoresde.integrations.diffusers.conventions import read

SIZE, BATCH, GUIDANCE, LENGTH = 8, 2, 3.0, 12
lib: Any = diffusers  # whose names are made when they are asked for, which type checkers do not follow
Net = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A pipeline, how it is called, and what its loop evaluates.

    Attributes:
        build: makes the pipeline.
        arguments: of its call; ``num_inference_steps`` is left out.
        network: the guided network of a pipeline, as a function of the state and what the network is fed as time.
        width: factor of the batch in the pipeline's loop, where the state of both halves of guidance is carried along.
        absent: parts that the pipeline does without.
    """

    name: str
    build: Callable[..., Any]
    arguments: Callable[[], Mapping[str, Any]]
    network: Callable[[Any], Net]
    width: int = 1
    absent: tuple[str, ...] = ()

    def saved_and_loaded(self) -> Any:
        """The pipeline, once it has been saved to a folder and loaded from it."""
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            self.build(**dict.fromkeys(self.absent)).save_pretrained(folder)
            pipe = lib.DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False, **dict.fromkeys(self.absent))
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def model(self, pipe: Any) -> ScoreModel:
        """The pipeline's network as the model of our own loop."""
        trained = read(pipe.scheduler.config)
        return ScoreModel(self.network(pipe), trained.process, trained.prediction, time_input=trained.time_input)


def chain() -> Any:
    return lib.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    )


def autoencoder() -> Any:
    return lib.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)


# Pixels


def ddpm() -> Any:
    unet = lib.UNet2DModel(
        sample_size=SIZE,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return lib.DDPMPipeline(unet, chain())


def ddpm_network(pipe: Any) -> Net:
    return lambda x, t: pipe.unet(x, t).sample


# Latents and text


def tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=LENGTH)


def text_unet(**options: Any) -> Any:
    return lib.UNet2DConditionModel(
        sample_size=SIZE,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
        **options,
    )


def stable_diffusion() -> Any:
    words: Any = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    unet = text_unet()
    return lib.StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=unet,
        scheduler=chain(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


PROMPTS = ["a red cat", "two dogs"]


def prompted() -> Mapping[str, Any]:
    return {"prompt": PROMPTS, "guidance_scale": GUIDANCE, "output_type": "latent"}


def stable_diffusion_network(pipe: Any) -> Net:
    with torch.no_grad():
        embeddings, empty = pipe.encode_prompt(PROMPTS, "cpu", 1, True)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        both = pipe.unet(torch.cat([x, x]), torch.cat([t, t]), torch.cat([empty, embeddings])).sample
        without, given = both.chunk(2)
        return without + GUIDANCE * (given - without)

    return guided


# Classes


def dit() -> Any:
    transformer = lib.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=SIZE,
        num_embeds_ada_norm=1000,
        norm_num_groups=4,
    )
    return lib.DiTPipeline(transformer, autoencoder(), chain())


CLASSES = [3, 207]


def labelled() -> Mapping[str, Any]:
    return {"class_labels": CLASSES, "guidance_scale": GUIDANCE, "output_type": "pt"}


def dit_network(pipe: Any) -> Net:
    labels = torch.tensor([*CLASSES, *[1000] * BATCH])

    def guided(x: Tensor, t: Tensor) -> Tensor:
        both = pipe.transformer(torch.cat([x, x]), timestep=torch.cat([t, t]), class_labels=labels).sample
        given, without = both[:, :4].chunk(2)
        return without + GUIDANCE * (given - without)

    return guided


# Rectified flow


ENCODERS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")  # embeddings are given instead


def stable_diffusion_3(**encoders: Any) -> Any:
    transformer = lib.SD3Transformer2DModel(
        sample_size=SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=SIZE,
    )
    return lib.StableDiffusion3Pipeline(
        transformer, lib.FlowMatchEulerDiscreteScheduler(shift=3.0), autoencoder(), **encoders
    )


def embeddings() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(2 * BATCH, 5, 16, generator=generator), torch.randn(2 * BATCH, 16, generator=generator)


def embedded() -> Mapping[str, Any]:
    text, pooled = embeddings()
    return {
        "prompt_embeds": text[BATCH:],
        "negative_prompt_embeds": text[:BATCH],
        "pooled_prompt_embeds": pooled[BATCH:],
        "negative_pooled_prompt_embeds": pooled[:BATCH],
        "guidance_scale": GUIDANCE,
        "height": SIZE,
        "width": SIZE,
        "output_type": "latent",
    }


def stable_diffusion_3_network(pipe: Any) -> Net:
    text, pooled = embeddings()

    def guided(x: Tensor, t: Tensor) -> Tensor:
        both = pipe.transformer(
            hidden_states=torch.cat([x, x]),
            timestep=torch.cat([t, t]),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        without, given = both.chunk(2)
        return without + GUIDANCE * (given - without)

    return guided


def flux(**encoders: Any) -> Any:
    transformer = lib.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    scheduler = lib.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return lib.FluxPipeline(scheduler=scheduler, vae=autoencoder(), transformer=transformer, **encoders)


def distilled() -> Mapping[str, Any]:
    text, pooled = embeddings()
    return {
        "prompt_embeds": text[:BATCH],
        "pooled_prompt_embeds": pooled[:BATCH],
        "guidance_scale": GUIDANCE,
        "height": SIZE,
        "width": SIZE,
        "output_type": "latent",
    }


def flux_network(pipe: Any) -> Net:
    text, pooled = embeddings()
    side = SIZE // 2
    places = torch.zeros(side, side, 3)
    places[..., 1], places[..., 2] = torch.arange(side)[:, None], torch.arange(side)[None]

    def network(x: Tensor, t: Tensor) -> Tensor:
        return pipe.transformer(
            hidden_states=x,
            timestep=t / 1000,
            guidance=torch.full((BATCH,), GUIDANCE),
            pooled_projections=pooled[:BATCH],
            encoder_hidden_states=text[:BATCH],
            txt_ids=torch.zeros(text.shape[1], 3),
            img_ids=places.reshape(-1, 3),
            return_dict=False,
        )[0]

    return network


CASES = {
    case.name: case
    for case in (
        Case("DDPMPipeline", ddpm, lambda: {"batch_size": BATCH, "output_type": "pt"}, ddpm_network),
        Case("StableDiffusionPipeline", stable_diffusion, prompted, stable_diffusion_network),
        Case("DiTPipeline", dit, labelled, dit_network, width=2),
        Case(
            "StableDiffusion3Pipeline",
            stable_diffusion_3,
            embedded,
            stable_diffusion_3_network,
            absent=(*ENCODERS, "text_encoder_3", "tokenizer_3"),
        ),
        Case("FluxPipeline", flux, distilled, flux_network, absent=ENCODERS),
    )
}
