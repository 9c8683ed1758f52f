"""Small pipelines of every family of diffusers that can be built from configurations, with random weights.

A :class:`Family` makes the pipeline and the arguments of its call. Prompts are given as embeddings, so that no text
encoder is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.agreement import tiny_pipelines
from benchmarks.agreement.tiny_pipelines import SIZE, autoencoder, chain, dit, lib, text_unet

ENCODERS = ("text_encoder", "tokenizer")


@dataclass(frozen=True)
class Family:
    """A pipeline, the arguments of its call, and a solver of the same method as its own scheduler's.

    Attributes:
        group: what kind of pipeline it is.
        name: its class.
        build: makes it.
        arguments: of its call, without the number of steps.
        solver: the method of ours that its own scheduler's is, on the same times; "" where times differ.
    """

    group: str
    name: str
    build: Callable[[], Any]
    arguments: Callable[[], Mapping[str, Any]]
    solver: str = ""

    def made(self) -> Any:
        """The pipeline, with weights of seed 0."""
        torch.manual_seed(0)
        pipe = self.build()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def call(self, pipe: Any, steps: int = 4) -> Tensor:
        """What the pipeline makes of noise of seed 0."""
        generator = torch.Generator().manual_seed(0)
        found = pipe(**{"num_inference_steps": steps, "generator": generator, **self.arguments()})
        first = found[0]
        return torch.as_tensor(first if isinstance(first, Tensor) else first[0]).detach().float()


def drawn(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flow(**options: Any) -> Any:
    return lib.FlowMatchEulerDiscreteScheduler(**options)


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((SIZE, SIZE)).convert("RGB")


def mask() -> Image.Image:
    found = Image.new("L", (SIZE, SIZE), 0)
    found.paste(255, (0, 0, SIZE // 2, SIZE))
    return found


# --- U-Nets with text


def stable(kind: str, **parts: Any) -> Callable[[], Any]:
    def build() -> Any:
        bare: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        made = {key: make() for key, make in parts.items()}
        return getattr(lib, kind)(
            vae=autoencoder(), scheduler=chain(), **dict.fromkeys(ENCODERS), **{"unet": text_unet(), **made}, **bare
        )

    return build


def prompt() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 5, 16),
        "negative_prompt_embeds": drawn(1, 5, 16, seed=8),
        "guidance_scale": 3.0,
        "output_type": "latent",
    }


def controlnet() -> Any:
    return lib.ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(16,),
    )


def xl(kind: str, refiner: bool = False) -> Callable[[], Any]:
    ids = 5 if refiner else 6

    def build() -> Any:
        network = text_unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 4 * ids,
        )
        pipe = getattr(lib, kind)(
            vae=autoencoder(),
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=network,
            scheduler=lib.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
            add_watermarker=False,
            **({"requires_aesthetics_score": True} if refiner else {}),
        )
        config = type("Config", (), {"projection_dim": 16})
        pipe.text_encoder_2 = type("Projection", (), {"config": config, "dtype": torch.float32})()
        return pipe

    return build


def prompt_xl() -> dict[str, Any]:
    return {
        **prompt(),
        "pooled_prompt_embeds": drawn(1, 16),
        "negative_pooled_prompt_embeds": drawn(1, 16, seed=8),
    }


def lcm() -> Any:
    pipe = stable("LatentConsistencyModelPipeline", unet=lambda: text_unet(time_cond_proj_dim=8))()
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    pipe.scheduler = lib.LCMScheduler(**betas)
    return pipe


# --- transformers


def pixart(words: Any = None, text: Any = None, vae: Any = None) -> Any:
    transformer = lib.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=SIZE,
        use_additional_conditions=False,
    )
    scheduler = lib.DPMSolverMultistepScheduler(beta_schedule="linear")
    return lib.PixArtAlphaPipeline(words, text, vae or autoencoder(), transformer, scheduler)


def masked() -> dict[str, Any]:
    return {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": drawn(1, 5, 16),
        "negative_prompt_embeds": drawn(1, 5, 16, seed=8),
        "prompt_attention_mask": torch.ones(1, 5),
        "negative_prompt_attention_mask": torch.ones(1, 5),
        "height": SIZE,
        "width": SIZE,
        "output_type": "latent",
        "use_resolution_binning": False,
    }


def sana() -> Any:
    transformer = lib.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=SIZE,
        patch_size=1,
    )
    vae = lib.AutoencoderDC(
        latent_channels=4,
        encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16),
        encoder_block_types=("ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock"),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    return lib.SanaPipeline(None, None, vae, transformer, flow(shift=3.0))


def of(kind: str, make: Callable[..., Any], parts: tuple[str, ...]) -> Callable[[], Any]:
    """The pipeline of that class from the parts of another, without the encoders that are named."""

    def build() -> Any:
        found = make(**dict.fromkeys(parts)).components
        found["vae"].register_to_config(shift_factor=0.0)  # which encoding subtracts
        return getattr(lib, kind)(**found)

    return build


def sd3(kind: str) -> Callable[[], Any]:
    return of(kind, tiny_pipelines.stable_diffusion_3, (*tiny_pipelines.ENCODERS, "text_encoder_3", "tokenizer_3"))


def pooled() -> dict[str, Any]:
    return {**prompt_xl(), "height": SIZE, "width": SIZE}


def flux(kind: str) -> Callable[[], Any]:
    return of(kind, tiny_pipelines.flux, tiny_pipelines.ENCODERS)


def distilled() -> dict[str, Any]:
    found = {key: value for key, value in pooled().items() if not key.startswith("negative")}
    return {**found, "max_sequence_length": 5}


def cogview4() -> Any:
    transformer = lib.CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=8,
        condition_dim=4,
        rope_axes_dim=(SIZE, SIZE),
    )
    scheduler = flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return lib.CogView4Pipeline(None, None, autoencoder(), transformer, scheduler)


# --- video


def video_vae(kind: str, **options: Any) -> Any:
    return getattr(lib, kind)(**options)


def wan() -> Any:
    transformer = lib.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    )
    vae = lib.AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = lib.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return lib.WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, transformer=transformer)


def cogvideo() -> Any:
    transformer = lib.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=5,
    )
    vae = lib.AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    scheduler = lib.CogVideoXDDIMScheduler(
        snr_shift_scale=3.0, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    return lib.CogVideoXPipeline(None, None, vae, transformer, scheduler)


def ltx(kind: str) -> Callable[[], Any]:
    def build() -> Any:
        transformer = lib.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=16,
        )
        vae = lib.AutoencoderKLLTXVideo(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1, 1, 1, 1),
            timestep_conditioning=False,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        )
        vae.use_framewise_encoding = vae.use_framewise_decoding = False
        return getattr(lib, kind)(scheduler=flow(), vae=vae, text_encoder=None, tokenizer=None, transformer=transformer)

    return build


def film(**options: Any) -> Callable[[], dict[str, Any]]:
    def arguments() -> dict[str, Any]:
        return {
            "prompt_embeds": drawn(1, 5, 16),
            "negative_prompt_embeds": drawn(1, 5, 16, seed=8),
            "output_type": "latent",
            **options,
        }

    return arguments


# --- pixels, audio


def pixels(kind: str, scheduler: Callable[[], Any], **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        network = lib.UNet2DModel(
            sample_size=SIZE,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            **options,
        )
        return getattr(lib, kind)(network, scheduler())

    return build


def stable_audio() -> Any:
    transformer = lib.StableAudioDiTModel(
        sample_size=4,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=16,
        time_proj_dim=16,
        global_states_input_dim=32,
        cross_attention_input_dim=16,
        num_attention_heads=2,
    )
    vae = lib.AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=4,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    projection = lib.StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32)
    return lib.StableAudioPipeline(
        vae=vae,
        text_encoder=None,
        projection_model=projection,
        tokenizer=None,
        transformer=transformer,
        scheduler=lib.EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0),
    )


def sound() -> dict[str, Any]:
    return {
        "prompt_embeds": drawn(1, 5, 16),
        "negative_prompt_embeds": drawn(1, 5, 16, seed=8),
        "attention_mask": torch.ones(1, 5, dtype=torch.long),
        "negative_attention_mask": torch.ones(1, 5, dtype=torch.long),
        "audio_end_in_s": 1.5,
        "output_type": "latent",
    }


def of_image(**options: Any) -> dict[str, Any]:
    return {**prompt(), "image": picture(), "strength": 0.75, **options}


FAMILIES = [
    Family("pixels", "DDPMPipeline", pixels("DDPMPipeline", chain), lambda: {"output_type": "np"}),
    Family("pixels", "DDIMPipeline", pixels("DDIMPipeline", chain), lambda: {"output_type": "np"}),
    Family(
        "consistency",
        "ConsistencyModelPipeline",
        pixels("ConsistencyModelPipeline", lambda: lib.CMStochasticIterativeScheduler()),
        lambda: {"output_type": "pt"},
    ),
    Family(
        "text to image",
        "StableDiffusionPipeline",
        stable("StableDiffusionPipeline"),
        lambda: {**prompt(), "height": SIZE, "width": SIZE},
    ),
    Family("image to image", "StableDiffusionImg2ImgPipeline", stable("StableDiffusionImg2ImgPipeline"), of_image),
    Family(
        "inpainting",
        "StableDiffusionInpaintPipeline",
        stable("StableDiffusionInpaintPipeline"),
        lambda: {**of_image(), "mask_image": mask(), "height": SIZE, "width": SIZE},
    ),
    Family(
        "ControlNet",
        "StableDiffusionControlNetPipeline",
        stable("StableDiffusionControlNetPipeline", controlnet=controlnet),
        lambda: {**prompt(), "image": picture(), "height": SIZE, "width": SIZE},
    ),
    Family(
        "LCM",
        "LatentConsistencyModelPipeline",
        lcm,
        lambda: {"prompt_embeds": drawn(1, 5, 16), "output_type": "latent", "height": SIZE, "width": SIZE},
    ),
    Family(
        "SDXL base",
        "StableDiffusionXLPipeline",
        xl("StableDiffusionXLPipeline"),
        lambda: {**prompt_xl(), "height": SIZE, "width": SIZE},
    ),
    Family(
        "SDXL refiner",
        "StableDiffusionXLImg2ImgPipeline",
        xl("StableDiffusionXLImg2ImgPipeline", refiner=True),
        lambda: {**prompt_xl(), "image": picture(), "strength": 0.75},
    ),
    Family("DiT", "DiTPipeline", dit, lambda: {"class_labels": [3], "output_type": "np"}),
    Family("PixArt", "PixArtAlphaPipeline", pixart, masked),
    Family(
        "Sana",
        "SanaPipeline",
        sana,
        lambda: {**masked(), "height": 32, "width": 32, "complex_human_instruction": None},
    ),
    Family("SD3", "StableDiffusion3Pipeline", sd3("StableDiffusion3Pipeline"), pooled),
    Family(
        "SD3",
        "StableDiffusion3Img2ImgPipeline",
        sd3("StableDiffusion3Img2ImgPipeline"),
        lambda: {**pooled(), "image": picture(), "strength": 0.75},
    ),
    Family("Flux", "FluxPipeline", flux("FluxPipeline"), distilled, "euler"),
    Family(
        "Flux",
        "FluxImg2ImgPipeline",
        flux("FluxImg2ImgPipeline"),
        lambda: {**distilled(), "image": picture(), "strength": 0.75},
        "euler",
    ),
    Family(
        "CogView4",
        "CogView4Pipeline",
        cogview4,
        lambda: {
            "prompt_embeds": drawn(1, 16, 16),
            "negative_prompt_embeds": drawn(1, 16, 16, seed=8),
            "height": 2 * SIZE,
            "width": 2 * SIZE,
            "output_type": "latent",
        },
        "euler",
    ),
    Family("video", "WanPipeline", wan, film(height=16, width=16, num_frames=5)),
    Family("video", "CogVideoXPipeline", cogvideo, film(height=16, width=16, num_frames=9)),
    Family(
        "video",
        "LTXPipeline",
        ltx("LTXPipeline"),
        film(
            height=32,
            width=32,
            num_frames=9,
            prompt_attention_mask=torch.ones(1, 5),
            negative_prompt_attention_mask=torch.ones(1, 5),
        ),
        "euler",
    ),
    Family(
        "video, parts at times of their own",
        "LTXConditionPipeline",
        ltx("LTXConditionPipeline"),
        film(
            height=32,
            width=32,
            num_frames=9,
            image=picture().resize((32, 32)),
            prompt_attention_mask=torch.ones(1, 5),
            negative_prompt_attention_mask=torch.ones(1, 5),
        ),
        "euler",
    ),
    Family("audio", "StableAudioPipeline", stable_audio, sound),
]
