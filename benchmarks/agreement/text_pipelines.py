"""Small pipelines of diffusers with text encoders and tokenizers, as folders have them; weights are random."""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from benchmarks.agreement import families, tiny_pipelines
from benchmarks.agreement.tiny_pipelines import LENGTH, SIZE, lib, tokenizer

WIDTH = 16
lib_of_texts: Any = transformers  # whose names are made when they are asked for


def deeper(**options: Any) -> Any:
    """An autoencoder whose images are twice as wide as its states."""
    ends = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return lib.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **ends, **options)


def clip(kind: Any, words: Any) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return kind(config)


def letters() -> Any:
    """A tokenizer of T5's kind, of letters."""
    known = [(word, 0.0) for word in ("<pad>", "</s>", "<unk>")]
    known += [(letter, -2.0) for letter in ("▁", *map(chr, range(ord("a"), ord("z") + 1)))]
    made: Any = Tokenizer(Unigram(known, unk_id=2))
    made.pre_tokenizer = Metaspace()
    made.post_processor = TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return lib_of_texts.T5TokenizerFast(tokenizer_object=made, extra_ids=0, model_max_length=LENGTH)


def t5() -> T5EncoderModel:
    sizes: dict[str, Any] = {"d_model": WIDTH, "d_kv": 8, "d_ff": 2 * WIDTH, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=32, **sizes))


def stable_diffusion() -> Any:
    parts = tiny_pipelines.stable_diffusion().components
    return lib.StableDiffusionPipeline(**{**parts, "vae": deeper()}, requires_safety_checker=False)


def stable_diffusion_xl() -> Any:
    words = tokenizer()
    network = lib.UNet2DConditionModel(
        sample_size=SIZE,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=WIDTH + 24,
    )
    return lib.StableDiffusionXLPipeline(
        vae=deeper(),
        text_encoder=clip(CLIPTextModel, words),
        text_encoder_2=clip(CLIPTextModelWithProjection, words),
        tokenizer=words,
        tokenizer_2=words,
        unet=network,
        scheduler=lib.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        add_watermarker=False,
    )


def stable_diffusion_3() -> Any:
    words = tokenizer()
    transformer = lib.SD3Transformer2DModel(
        sample_size=SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=SIZE,
    )
    return lib.StableDiffusion3Pipeline(
        transformer,
        lib.FlowMatchEulerDiscreteScheduler(shift=3.0),
        deeper(shift_factor=0.1, scaling_factor=1.5),
        text_encoder=clip(CLIPTextModelWithProjection, words),
        tokenizer=words,
        text_encoder_2=clip(CLIPTextModelWithProjection, words),
        tokenizer_2=words,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def flux() -> Any:
    words, parts = tokenizer(), tiny_pipelines.flux(**dict.fromkeys(tiny_pipelines.ENCODERS)).components
    texts = {"text_encoder": clip(CLIPTextModel, words), "tokenizer": words}
    return lib.FluxPipeline(
        **{**parts, **texts, "text_encoder_2": t5(), "tokenizer_2": letters(), "vae": deeper(shift_factor=0.1)}
    )


def pixart() -> Any:
    return families.pixart(letters(), t5(), deeper())


def latent_consistency() -> Any:
    parts = {key: value for key, value in stable_diffusion().components.items() if key != "image_encoder"}
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    parts |= {"unet": tiny_pipelines.text_unet(time_cond_proj_dim=8), "scheduler": lib.LCMScheduler(**betas)}
    return lib.LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


BUILT = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "FluxPipeline": flux,
    "PixArtAlphaPipeline": pixart,
    "LatentConsistencyModelPipeline": latent_consistency,
}
