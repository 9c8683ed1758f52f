"""Checkpoints of diffusers give, by our solvers, what they give by diffusers' schedulers."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import scoresde
import solvers
from scoresde import EDM, Flow, VPDiscrete, models
from scoresde.commands.main import main
from scoresde.integrations.diffusers import conventions as scheduler_config
from scoresde.integrations.diffusers.loading import shifted
from scoresde.models import Checkpoint, CheckpointError, from_diffusers
from scoresde.noise import Noise

diffusers: Any = import_module("diffusers")

COUNT, SIDE, STEPS = 2, 8, 5  # of 1000: DDIMScheduler takes its next timestep to be 1000 // steps below
BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": SIDE}
PLAIN = {**BLOCKS, "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
CHAIN = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
ATTENDING = {"attention_head_dim": 8, "num_attention_heads": 2}
PATCHED = {**ATTENDING, "num_layers": 1, "patch_size": 2, "sample_size": SIDE}


def filled(net: nn.Module, seed: int = 3) -> Any:
    """The network with weights that make all of its parts matter; new ones are zero at the end."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def unet(**options: Any) -> Any:
    return filled(diffusers.UNet2DModel(**{**PLAIN, "in_channels": 3, "out_channels": 3, **options}))


def text_unet(**options: Any) -> Any:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    sizes = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 12, "attention_head_dim": 4}
    return filled(diffusers.UNet2DConditionModel(**{**BLOCKS, **blocks, **sizes, **options}))


def dit(**options: Any) -> Any:
    known = {**PATCHED, "in_channels": 4, "out_channels": 8, "num_embeds_ada_norm": 5, "norm_num_groups": 4}
    return filled(diffusers.DiTTransformer2DModel(**{**known, **options}))


def sd3() -> Any:
    sizes = {
        "joint_attention_dim": 12,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 10,
        "pos_embed_max_size": 8,
    }
    return filled(diffusers.SD3Transformer2DModel(**{**PATCHED, **sizes, "in_channels": 4, "out_channels": 4}))


def flux() -> Any:
    sizes = {"joint_attention_dim": 12, "pooled_projection_dim": 10, "axes_dims_rope": (2, 2, 4), "in_channels": 16}
    layers = {"num_layers": 1, "num_single_layers": 1, "patch_size": 1, "guidance_embeds": True}
    return filled(diffusers.FluxTransformer2DModel(**{**ATTENDING, **sizes, **layers}))


def vae(**options: Any) -> Any:
    blocks = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 2 * SIDE}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return filled(diffusers.AutoencoderKL(**{**blocks, **kinds, "scaling_factor": 0.3, **options}))


def written(folder: Path, **parts: Any) -> Path:
    """A pipeline's folder, without the parts that need other libraries."""
    index: dict[str, Any] = {"_class_name": "Pipeline", "_diffusers_version": diffusers.__version__}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    index["text_encoder"] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def noise(shape: tuple[int, ...]) -> Noise:
    return Noise(list(range(COUNT)), shape, torch.float64, torch.device("cpu"))


def exact(scheduler: Any) -> Any:
    """The scheduler with its chain in float64."""
    scheduler.alphas_cumprod = torch.from_numpy(np.cumprod(1 - scheduler_config.betas(scheduler.config)))
    return scheduler


def theirs(net: Any, scheduler: Any, x: Tensor, **cond: Any) -> Tensor:
    """diffusers' scheduler around diffusers' network."""
    net = net.double()
    with torch.no_grad():
        for t in scheduler.timesteps:
            fed = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            time = t.double().expand(len(x))
            out = net(fed, timestep=time, return_dict=False, **cond)[0][:, : x.shape[1]]
            x = scheduler.step(out, t, x).prev_sample
    return x


def ours(checkpoint: Checkpoint, solver: str, times: Any, **cond: Any) -> Tensor:
    """Our samples from draw 0 of each seed, which starts at σ(t_max) times the noise."""
    return scoresde.sample(
        checkpoint.model,
        solver,
        x_init=noise(checkpoint.shape)(),
        grid=times,
        seeds=0,
        cond=cond,
    ).samples


def embeddings(length: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(COUNT, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: Tensor, expected: Tensor, rounding: float = 1e-5) -> None:
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding * float(expected.abs().max()))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional pixel pipeline."""
    return written(tmp_path_factory.mktemp("ddpm"), unet=unet(), scheduler=diffusers.DDPMScheduler())


# ---------------------------------------------------------------------------------------------------------------------
# pixels


@pytest.mark.parametrize(
    "options",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
        {"prediction_type": "v_prediction"},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        {"trained_betas": np.linspace(1e-4, 0.3, 50).tolist(), "num_train_timesteps": 50},
    ],
    ids=lambda options: " ".join(map(str, options.values()))[:40],
)
def test_a_pixel_checkpoint_is_sampled_as_by_diffusers(options: dict[str, Any], tmp_path: Path) -> None:
    known = {**CHAIN, "timestep_spacing": "trailing", **options}
    net, scheduler = unet(), diffusers.DDIMScheduler(**known)
    checkpoint = from_diffusers(written(tmp_path, unet=net, scheduler=scheduler), dtype=torch.float64)
    scheduler.set_timesteps(STEPS)
    expected = theirs(net, exact(scheduler), noise((3, SIDE, SIDE))())
    assert (checkpoint.shape, checkpoint.classes, checkpoint.decode) == ((3, SIDE, SIDE), 0, None)
    close(ours(checkpoint, "ddim", [*scheduler.timesteps.tolist(), -1.0]), expected)


def test_class_labels_go_by_either_name(tmp_path: Path) -> None:
    net = unet(num_class_embeds=4)
    folder = written(tmp_path, unet=net, scheduler=diffusers.DDPMScheduler())
    checkpoint = from_diffusers(folder, dtype=torch.float64)
    x, labels = noise(checkpoint.shape)(), torch.tensor([1, 3])
    with torch.no_grad():
        expected = net.double()(x, torch.tensor(421.5), class_labels=labels)[0]
    assert checkpoint.classes == 4
    close(checkpoint.model.epsilon(x, 421.5, label=labels), expected)
    close(checkpoint.model.epsilon(x, 421.5, class_labels=labels), expected)
    with pytest.raises(ValueError, match="UNet2DModel has 4 classes, and none for no label"):
        checkpoint.model.epsilon(x, 421.5)


def test_a_score_network_of_song_et_al_is_fed_sigma() -> None:
    net = unet(time_embedding_type="fourier")
    checkpoint = from_diffusers(net, scheduler=diffusers.ScoreSdeVeScheduler(sigma_max=50.0), dtype=torch.float64)
    assert checkpoint.model.process == EDM(0.01, 50.0)
    x, sigma = 3 * noise(checkpoint.shape)(), torch.tensor([0.7, 12.0], dtype=torch.float64)
    with torch.no_grad():
        expected = net(x, sigma.float())[0]
    close(checkpoint.model.score(x, sigma), expected)


def test_a_preconditioned_network_is_surrounded_as_its_scheduler_says() -> None:
    net, scheduler = unet(), diffusers.EDMEulerScheduler()
    checkpoint = from_diffusers(net, scheduler=scheduler, dtype=torch.float64)
    scheduler.set_timesteps(STEPS)
    times = scheduler.sigmas.double().tolist()
    x = times[0] * noise(checkpoint.shape)()
    found = scoresde.sample(checkpoint.model, solvers.get("euler"), x_init=x, grid=times, seeds=0).samples
    expected = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            fed = scheduler.scale_model_input(expected, t)
            expected = scheduler.step(net(fed, t)[0], t, expected).prev_sample.double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("indices", [[0], [22, 0]])
def test_a_consistency_model_is_sampled_as_by_diffusers(
    indices: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, scheduler = unet(num_class_embeds=3), diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    checkpoint = from_diffusers(written(tmp_path, unet=net, scheduler=scheduler), dtype=torch.float64)
    scheduler.set_timesteps(timesteps=indices)
    times, labels = scheduler.sigmas[:-1].double().tolist(), torch.tensor([2, 0])
    result = scoresde.sample(
        checkpoint.model,
        "consistency",
        grid=[*times, 0.0],
        shape=(COUNT, *checkpoint.shape),
        seeds=0,
        cond={"label": labels},
        dtype=torch.float64,
    )
    draws = noise(checkpoint.shape)
    x = times[0] * draws()
    monkeypatch.setattr(import_module(type(scheduler).__module__), "randn_tensor", lambda *args, **kwargs: draws())
    # Theirs feeds 250 log σ, up to 1095, in float32; the embedding's first frequency sees that rounding whole.
    close(result.samples, theirs(net, scheduler, x, class_labels=labels), 1095 * torch.finfo(torch.float32).eps)


# ---------------------------------------------------------------------------------------------------------------------
# latents


def test_a_text_conditioned_latent_checkpoint_with_added_conditions(tmp_path: Path) -> None:
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 30,
    }
    net, scheduler = text_unet(**added), diffusers.DDIMScheduler(**CHAIN, timestep_spacing="trailing")
    coder = vae(shift_factor=0.2)
    folder = written(tmp_path, unet=net, scheduler=scheduler, vae=coder)
    checkpoint = from_diffusers(folder, dtype=torch.float64)
    text, pooled = embeddings(5, 12), embeddings(1, 6)[:, 0]
    ids = torch.arange(12.0).reshape(COUNT, 6).double()
    cond = {"encoder_hidden_states": text, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    scheduler.set_timesteps(STEPS)
    expected = theirs(net, exact(scheduler), noise((4, SIDE, SIDE))(), **cond)
    states = ours(checkpoint, "ddim", [*scheduler.timesteps.tolist(), -1.0], **cond)
    close(states, expected)
    with torch.no_grad():
        images = coder.double().decode(expected / 0.3 + 0.2).sample
    assert checkpoint.decode is not None and checkpoint.encode is not None
    close(checkpoint.decode(states), images)
    assert images.shape == (COUNT, 3, 2 * SIDE, 2 * SIDE)
    with torch.no_grad():
        back = (coder.encode(images).latent_dist.mode() - 0.2) * 0.3
    close(checkpoint.encode(images), back)


def test_samples_are_decoded_once_at_the_end_one_image_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path, unet=text_unet(), scheduler=diffusers.DDIMScheduler(**CHAIN), vae=vae())
    checkpoint = from_diffusers(folder)
    batches: list[int] = []
    decoder = diffusers.AutoencoderKL._decode
    monkeypatch.setattr(
        diffusers.AutoencoderKL, "_decode", lambda self, z, **k: (batches.append(len(z)), decoder(self, z, **k))[1]
    )
    result = scoresde.sample(
        checkpoint.model,
        nfe=3,
        shape=(4, *checkpoint.shape),
        seeds=0,
        cond={"encoder_hidden_states": torch.ones(4, 5, 12)},
        decode=checkpoint.decode,
    )
    assert result.samples.shape == (4, 3, 2 * SIDE, 2 * SIDE)
    assert batches == [1, 1, 1, 1]


def test_latents_with_a_mean_and_spread_of_their_own(tmp_path: Path) -> None:
    mean, std = [0.1, -0.2, 0.3, 0.4], [1.5, 0.5, 2.0, 1.0]
    coder = vae(latents_mean=mean, latents_std=std)
    folder = written(tmp_path, unet=text_unet(), scheduler=diffusers.DDIMScheduler(**CHAIN), vae=coder)
    checkpoint = from_diffusers(folder, dtype=torch.float64)
    states = noise((4, SIDE, SIDE))()
    latents = states * torch.tensor(std).double()[:, None, None] / 0.3 + torch.tensor(mean).double()[:, None, None]
    assert checkpoint.decode is not None
    with torch.no_grad():
        close(checkpoint.decode(states), coder.double().decode(latents).sample)


def test_images_come_and_go_as_pil_images_do(tmp_path: Path) -> None:
    folder = written(tmp_path, unet=text_unet(), scheduler=diffusers.DDIMScheduler(**CHAIN), vae=vae())
    checkpoint = from_diffusers(folder)
    processor = import_module("diffusers.image_processor").VaeImageProcessor()
    tensor = torch.rand(2, 3, 2 * SIDE, 2 * SIDE) * 2 - 1
    pictures = processor.postprocess(tensor, "pil")
    assert checkpoint.encode is not None
    torch.testing.assert_close(checkpoint.encode(pictures), checkpoint.encode(tensor), rtol=0, atol=0.05)


def test_a_class_conditional_dit_pipeline_is_sampled_as_its_pipeline_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = diffusers.DDIMScheduler(**CHAIN, timestep_spacing="trailing")
    pipeline = diffusers.DiTPipeline(transformer=dit(), vae=vae(), scheduler=scheduler)
    pipeline.save_pretrained(tmp_path)
    pipeline = diffusers.DiTPipeline.from_pretrained(tmp_path, dtype=torch.float64)
    checkpoint = from_diffusers(tmp_path, dtype=torch.float64)
    assert (checkpoint.classes, checkpoint.shape) == (5, (4, SIDE, SIDE))
    labels = [4, 1]
    module = import_module(type(pipeline).__module__)
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise(checkpoint.shape)())
    exact(pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(labels, guidance_scale=1.0, num_inference_steps=STEPS, output_type="np").images
    times = [*pipeline.scheduler.timesteps.tolist(), -1.0]
    assert checkpoint.decode is not None
    images = checkpoint.decode(ours(checkpoint, "ddim", times, label=torch.tensor(labels)))
    found = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(found.float(), torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_no_label_of_a_dit_is_its_last_class_and_its_learned_variance_is_left_out() -> None:
    net, scheduler = dit(), diffusers.DDPMScheduler(variance_type="learned_range")
    checkpoint = from_diffusers(net, scheduler=scheduler, dtype=torch.float64)
    x, none = noise(checkpoint.shape)(), torch.tensor([5, 5])
    with torch.no_grad():
        out = net(x, torch.tensor([300.0, 300.0]), class_labels=none)[0]
    assert out.shape[1] == 2 * x.shape[1]
    close(checkpoint.model.epsilon(x, 300.0), out[:, :4])
    close(checkpoint.model.epsilon(x, 300.0, label=none), out[:, :4])


def test_a_pixart_network_takes_text_with_its_mask_and_size() -> None:
    known = {**PATCHED, "in_channels": 4, "out_channels": 8, "caption_channels": 12, "cross_attention_dim": 16}
    net = filled(diffusers.PixArtTransformer2DModel(**known, norm_num_groups=4, use_additional_conditions=False))
    checkpoint = from_diffusers(net, scheduler=diffusers.DDPMScheduler(), dtype=torch.float64)
    x, text, mask = noise(checkpoint.shape)(), embeddings(5, 12), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    added = {"resolution": None, "aspect_ratio": None}
    cond = {"encoder_hidden_states": text, "encoder_attention_mask": mask, "added_cond_kwargs": added}
    time = torch.tensor([17.0, 17.0]).double()
    with torch.no_grad():
        expected = net(x, timestep=time, **{**cond, "encoder_attention_mask": mask.double()})[0][:, :4]
    close(checkpoint.model.epsilon(x, 17.0, **cond), expected)


# ---------------------------------------------------------------------------------------------------------------------
# flow


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_an_sd3_checkpoint_is_sampled_as_by_diffusers(shift: float, tmp_path: Path) -> None:
    net, scheduler = sd3(), diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    folder = written(tmp_path, transformer=net, scheduler=scheduler, vae=vae())
    checkpoint = from_diffusers(folder, dtype=torch.float64)
    assert (checkpoint.model.process, checkpoint.model.prediction) == (Flow(), "flow")
    assert checkpoint.grid is not None and checkpoint.grid.options["shift"] == shift
    scheduler.set_timesteps(STEPS)
    cond = {"encoder_hidden_states": embeddings(5, 12), "pooled_projections": embeddings(1, 10)[:, 0]}
    expected = theirs(net, scheduler, noise((4, SIDE, SIDE))(), **cond)
    found = ours(checkpoint, "euler", scheduler.sigmas.double().tolist(), **cond)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


class Packed(nn.Module):
    """Flux as its pipeline calls it: tokens of 2 × 2 with positions, times from 0 to 1."""

    def __init__(self, net: nn.Module, side: int):
        super().__init__()
        self.net, self.side = net, side

    def forward(self, x: Tensor, timestep: Tensor, return_dict: bool, **cond: Any) -> tuple[Tensor]:
        count, channels, half = len(x), x.shape[1], self.side // 2
        tokens = (
            x.view(count, channels, half, 2, half, 2).permute(0, 2, 4, 1, 3, 5).reshape(count, half**2, channels * 4)
        )
        ids = torch.zeros(half, half, 3, dtype=x.dtype)
        ids[..., 1] += torch.arange(half)[:, None]
        ids[..., 2] += torch.arange(half)[None, :]
        text = torch.zeros(cond["encoder_hidden_states"].shape[1], 3, dtype=x.dtype)
        out = self.net(tokens, timestep=timestep / 1000, img_ids=ids.reshape(-1, 3), txt_ids=text, **cond)[0]
        return (out.view(count, half, half, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.shape),)


def test_a_flux_checkpoint_is_packed_and_shifted_by_its_size(tmp_path: Path) -> None:
    net, scheduler = flux(), diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    folder = written(tmp_path, transformer=net, scheduler=scheduler)
    checkpoint = from_diffusers(folder, shape=(4, SIDE, SIDE), dtype=torch.float64)
    scheduler.set_timesteps(STEPS, mu=0.7)
    cond = {"encoder_hidden_states": embeddings(5, 12), "pooled_projections": embeddings(1, 10)[:, 0]}
    cond["guidance"] = torch.tensor([3.5, 2.0]).double()
    expected = theirs(Packed(net, SIDE), scheduler, noise((4, SIDE, SIDE))(), **cond)
    found = ours(checkpoint, "euler", scheduler.sigmas.double().tolist(), **cond)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    with pytest.raises(CheckpointError, match="does not say its 'sample_size': give shape=\\(4, height, width\\)"):
        from_diffusers(folder)
    with pytest.raises(CheckpointError, match="states of 4 channels, got shape \\(16, 8, 8\\)"):
        from_diffusers(folder, shape=(16, 8, 8))


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_a_dynamic_shift_is_the_one_that_diffusers_applies(kind: str) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    trained = scheduler_config.read(scheduler.config)
    for side, mu in ((32, 0.5), (128, 1.15), (80, 0.5 + 0.65 * (1600 - 256) / 3840)):
        grid = shifted(trained, scheduler.config, (16, side, side))
        assert grid is not None
        shift = grid.options["shift"]
        assert shift == pytest.approx(math.exp(mu) if kind == "exponential" else mu)
        times = np.linspace(1, 0.1, 5)
        expected = scheduler.time_shift(mu, 1.0, times)
        np.testing.assert_allclose(shift * times / (1 + (shift - 1) * times), expected, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# where they come from


def test_a_pipeline_a_network_and_every_kind_of_folder_are_the_same_model(pixels: Path, tmp_path: Path) -> None:
    pipeline = diffusers.DDPMPipeline.from_pretrained(pixels)
    pipeline.save_pretrained(tmp_path / "pipeline")
    # Early repositories have the parts beside each other.
    shutil.copytree(pixels / "unet", tmp_path / "flat")
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        shutil.copy(pixels / name, tmp_path / "flat")
    shutil.copytree(pixels / "unet", tmp_path / "alone")
    shutil.copy(pixels / "scheduler/scheduler_config.json", tmp_path / "alone")
    x = noise((3, SIDE, SIDE))().float()
    expected = models.load(pixels).model.epsilon(x, 300.0)
    found = {
        "pipeline": from_diffusers(pipeline),
        "its folder": models.load(tmp_path / "pipeline"),
        "flat": models.load(tmp_path / "flat"),
        "network's folder": models.load(tmp_path / "alone"),
        "network": from_diffusers(pipeline.unet, scheduler=pipeline.scheduler),
        "configuration": from_diffusers(pixels / "unet", scheduler=dict(pipeline.scheduler.config)),
        "prefix": models.load(f"diffusers:{pixels}"),
    }
    for name, checkpoint in found.items():
        assert checkpoint.model.process == VPDiscrete(), name
        assert name == "configuration" or checkpoint.card["scheduler"]["_class_name"] == "DDPMScheduler", name
        torch.testing.assert_close(checkpoint.model.epsilon(x, 300.0), expected, rtol=0, atol=0)


def test_the_fingerprint_is_that_of_the_files(pixels: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(pixels, tmp_path / "copy")
    before = models.fingerprint(pixels)
    assert models.fingerprint(f"diffusers:{copy}") == before
    filled(unet(), seed=4).save_pretrained(copy / "unet")
    assert models.fingerprint(copy) != before


def test_a_network_in_bfloat16_keeps_its_conditions_in_step() -> None:
    net, scheduler = text_unet(), diffusers.DDIMScheduler(**CHAIN)
    checkpoint = from_diffusers(net, scheduler=scheduler, dtype=torch.bfloat16)
    x, text = noise(checkpoint.shape)().float(), embeddings(5, 12).float()
    found = checkpoint.model.epsilon(x, 100.0, encoder_hidden_states=text)
    assert found.dtype == torch.float32
    with torch.no_grad():
        expected = from_diffusers(text_unet(), scheduler=scheduler).model.epsilon(x, 100.0, encoder_hidden_states=text)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_the_command_samples_a_checkpoint_of_diffusers(pixels: Path, tmp_path: Path) -> None:
    settings = [f"model.id={pixels}", "n=2", "nfe=3", "batch_size=2", f"out={tmp_path}", "solver=dpmpp_2m"]
    assert main(["sample", "model=diffusers", *settings]) == 0
    samples = np.load(tmp_path / "samples.npz")["samples"]
    expected = scoresde.sample(models.load(pixels).model, "dpmpp_2m", nfe=3, shape=(2, 3, SIDE, SIDE), seeds=0).samples
    np.testing.assert_allclose(samples, expected.numpy(), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# refusals


def test_what_is_not_understood_is_refused_by_name(pixels: Path) -> None:
    chain = diffusers.DDPMScheduler()
    learned = diffusers.DDPMScheduler(variance_type="learned_range")
    two = diffusers.UNet2DModel(**{**PLAIN, "in_channels": 6, "out_channels": 3})
    for network, scheduler, words in (
        (two, chain, "UNet2DModel takes 6 channels and returns 3"),
        (unet(), learned, "the variance is learned, but UNet2DModel returns none"),
        (sd3(), chain, "SD3Transformer2DModel predicts flow velocities, but its scheduler is of VPDiscrete"),
        (unet(time_embedding_type="fourier"), chain, "time_embedding_type = 'fourier' does not fit its scheduler"),
        (unet(time_embedding_type="learned", num_train_timesteps=10), chain, "'learned' knows whole timesteps only"),
        (unet(), None, "UNet2DModel has no scheduler, which says what it was trained on: give scheduler="),
        (unet(), {"_class_name": "SCMScheduler"}, "the scheduler of UNet2DModel: the conventions of networks of 'SCM"),
        (unet(), {**chain.config, "prediction_type": "epsilom"}, "'epsilom' is not understood; did you mean 'epsilon'"),
        (nn.Linear(2, 2), chain, "the network 'Linear' of Linear is not known; known: DiTTransformer2DModel"),
        (pixels.parent, chain, "is no checkpoint of diffusers: it has neither model_index.json nor config.json"),
    ):
        with pytest.raises(CheckpointError, match=words):
            from_diffusers(network, scheduler=scheduler)


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    chain = diffusers.DDIMScheduler(**CHAIN)
    folder = written(tmp_path / "channels", unet=text_unet(), scheduler=chain, vae=vae(latent_channels=3))
    with pytest.raises(CheckpointError, match="states of 4 channels, but the autoencoder's have 3"):
        from_diffusers(folder)
    written(tmp_path / "none", scheduler=chain, vae=vae())
    with pytest.raises(CheckpointError, match="needs one of unet, transformer; it has scheduler, vae"):
        from_diffusers(tmp_path / "none")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for part, kind, words in (
        ("vae", "AutoencoderKLWan", "the autoencoder 'AutoencoderKLWan' is not known; did you mean 'AutoencoderKL'"),
        (
            "unet",
            "UNet3DConditionModel",
            "the network 'UNet3DConditionModel' of .* did you mean 'UNet2DConditionModel'",
        ),
    ):
        changed = {**index, part: ["diffusers", kind]}
        (folder / "model_index.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(CheckpointError, match=words):
            from_diffusers(folder)


def test_a_condition_that_the_network_does_not_have_gets_the_nearest() -> None:
    model = from_diffusers(text_unet(), scheduler=diffusers.DDIMScheduler(**CHAIN)).model
    x = noise((4, SIDE, SIDE))().float()
    with pytest.raises(TypeError, match="no condition 'encoder_hidden_state'; did you mean 'encoder_hidden_states'"):
        model.epsilon(x, 10.0, encoder_hidden_state=embeddings(5, 12))


@pytest.fixture
def without_diffusers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    yield


def test_diffusers_missing_is_said_plainly(without_diffusers: None, pixels: Path) -> None:
    with pytest.raises(ImportError, match=r"checkpoints of diffusers need it: install scoresde\[diffusers\]"):
        models.load(pixels)


def test_a_hub_that_cannot_be_reached_is_not_a_checkpoint_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: Any, **__: Any) -> Any:
        try:
            raise LocalEntryNotFoundError("no way to the hub")
        except LocalEntryNotFoundError as error:
            raise OSError("a/model does not appear to have a file named model_index.json.") from error

    monkeypatch.setattr("diffusers.ConfigMixin.load_config", unreachable)
    with pytest.raises(CheckpointError, match="neither a folder nor in the cache of the hub, and the hub cannot be"):
        from_diffusers("a/model")


# ---------------------------------------------------------------------------------------------------------------------
# as people have them


@pytest.mark.parametrize("safe", [True, False])
def test_the_only_variant_of_the_weights_is_read(safe: bool, tmp_path: Path) -> None:
    net = unet()
    written(tmp_path / "plain", unet=net, scheduler=diffusers.DDPMScheduler())
    written(tmp_path / "half", scheduler=diffusers.DDPMScheduler(), unet=net)
    for path in (tmp_path / "half" / "unet").glob("diffusion*"):
        path.unlink()
    net.save_pretrained(tmp_path / "half" / "unet", variant="fp16", safe_serialization=safe)
    draw = dict[str, Any](nfe=2, shape=(1, *from_diffusers(tmp_path / "plain").shape), seeds=0)
    expected = scoresde.sample(from_diffusers(tmp_path / "plain").model, **draw).samples
    for variant in (None, "fp16"):
        found = scoresde.sample(from_diffusers(tmp_path / "half", variant=variant).model, **draw).samples
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(
        CheckpointError, match=r"no weights of the variant 'bf16': it has .*fp16.*; give variant='fp16'"
    ):
        from_diffusers(tmp_path / "half", variant="bf16")
    net.save_pretrained(tmp_path / "half" / "unet", variant="ema")
    with pytest.raises(CheckpointError, match="holds several variants: it has .*; give variant='ema', 'fp16'"):
        from_diffusers(tmp_path / "half")


def test_a_folder_without_weights_of_diffusers_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    written(tmp_path, unet=unet(), scheduler=diffusers.DDPMScheduler())
    (weights,) = (tmp_path / "unet").glob("diffusion*")
    weights.rename(weights.with_name("model.ckpt"))
    with pytest.raises(CheckpointError, match="holds neither diffusion_pytorch_model.* nor .*; it has model.ckpt"):
        from_diffusers(tmp_path)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")], ids=["parallel", "compiled"]
)
def test_a_wrapped_network_is_read_as_the_one_inside(wrap: Any) -> None:
    net, scheduler = unet(), diffusers.DDPMScheduler()
    plain, wrapped = from_diffusers(net, scheduler=scheduler), from_diffusers(wrap(net), scheduler=scheduler)
    assert wrapped.shape == plain.shape and wrapped.card == plain.card
    draw = dict[str, Any](nfe=3, shape=(2, *plain.shape), seeds=0)
    found, expected = (scoresde.sample(each.model, "ddim", **draw).samples for each in (wrapped, plain))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_an_output_of_diffusers_is_a_network_s_output() -> None:
    net = unet()
    model = scoresde.ScoreModel(lambda x, t: net(x, t), scoresde.VP(), time_input=lambda t: 999 * t)
    assert model.score(torch.zeros(2, 3, SIDE, SIDE), 0.5).shape == (2, 3, SIDE, SIDE)


def test_a_latent_model_is_measured_on_decoded_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "model", transformer=dit(), vae=vae(), scheduler=diffusers.DDIMScheduler())
    shape = from_diffusers(tmp_path / "model").image_shape(torch.device("cpu"))
    assert shape[0] == 3 and shape != from_diffusers(tmp_path / "model").shape
    rng, real = np.random.default_rng(0), tmp_path / "real"
    real.mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (*shape[1:], 3), dtype=np.uint8)).save(real / f"{index}.png")
    settings = ["n=3", "nfe=2", "metrics=true", "features=pixels", f"reference={real}", f"out={tmp_path / 'out'}"]
    assert main(["sample", "model=diffusers", f"model.id={tmp_path / 'model'}", *settings]) == 0
    assert (
        f"FID {json.loads((tmp_path / 'out' / 'metrics.json').read_text())['metrics']['fid']['value']:.3f} in pixels"
        in (capsys.readouterr().out)
    )


def test_guidance_of_a_network_without_a_label_for_none_needs_one_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "model", unet=unet(num_class_embeds=5), scheduler=diffusers.DDPMScheduler())
    settings = [
        "model=diffusers",
        f"model.id={tmp_path / 'model'}",
        "n=2",
        "nfe=2",
        "label=1",
        "guidance=classifier_free",
    ]
    assert main(["sample", *settings, f"out={tmp_path / 'a'}"]) == 1
    assert 'no label for "no label": guidance.unconditional= names the one of 0 to 4' in capsys.readouterr().err
    assert main(["sample", *settings, "guidance.unconditional=7", f"out={tmp_path / 'a'}"]) == 1
    assert "guidance.unconditional must be a label from 0 to 4, got 7" in capsys.readouterr().err
    assert main(["sample", *settings, "guidance.unconditional=4", f"out={tmp_path / 'a'}"]) == 0


def test_a_size_that_a_checkpoint_does_not_say_is_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "model", unet=unet(), scheduler=diffusers.DDPMScheduler())
    config = tmp_path / "model" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sample_size": None}))
    ask = ["sample", "model=diffusers", f"model.id={tmp_path / 'model'}", "n=2", "nfe=2", f"out={tmp_path / 'out'}"]
    assert main(ask) == 1
    assert "on the command line shape=[3,64,64]" in capsys.readouterr().err
    assert main([*ask, f"shape=[3,{SIDE},{SIDE}]"]) == 0
    assert np.load(tmp_path / "out" / "samples.npz")["samples"].shape == (2, 3, SIDE, SIDE)


def test_a_checkpoint_of_text_says_so_before_it_is_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "model", unet=text_unet(), vae=vae(), scheduler=diffusers.DDIMScheduler(**CHAIN))
    assert main(["sample", "model=diffusers", f"model.id={tmp_path / 'model'}", "n=2", f"out={tmp_path / 'out'}"]) == 1
    said = capsys.readouterr().err
    assert (
        "conditioned on encoder_hidden_states (text, sizes, …), which no command gives" in said
        and said.count("\n") == 1
    )
    assert not (tmp_path / "out").exists()
