"""Pipelines of text on the command line: prompts, size, guidance, images to begin with; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import CLIPConfig, CLIPModel

import scoresde
from benchmarks.agreement import text_pipelines, tiny_pipelines
from scoresde import models
from scoresde.commands.main import main
from scoresde.metrics import spaces
from scoresde.runs import shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    found = tmp_path_factory.mktemp("pipelines") / "stable-diffusion"
    text_pipelines.stable_diffusion().save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    words: Any = tiny_pipelines.tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    text = {**sizes, **ends, "vocab_size": len(words), "max_position_embeddings": tiny_pipelines.LENGTH}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    found = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(found)
    words.save_pretrained(found)
    return found


def pictures(folder: Path) -> tuple[Path, Path]:
    """A picture, and a mask whose left half is white."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "cat.png")
    Image.fromarray(np.repeat(np.array([[255] * 8 + [0] * 8], np.uint8), 16, 0)).save(folder / "mask.png")
    return folder / "cat.png", folder / "mask.png"


def ask(command: str, folder: Any, out: Path, *settings: str) -> list[str]:
    return [command, "model=diffusers", f"model.id={folder}", f"out={out}", "dtype=float32", *settings]


def test_samples_have_the_prompts_in_turn_and_are_those_of_the_library(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["a red cat, it's (here:1.2)", "dogs"]
    told = '["a red cat, it\'s (here:1.2)", dogs]'
    command = ask("sample", folder, tmp_path / "out", f"prompt={told}", "negative_prompt=blue", "n=3", "nfe=3")
    more = ("guidance=classifier_free", "guidance.scale=3", "height=16", "width=32", "batch_size=3")
    assert main([*command, *more]) == 0
    assert "StableDiffusionPipeline(guidance_scale=3): 3 NFE" in capsys.readouterr().out
    found = shards.load(tmp_path / "out")
    assert found.labels.tolist() == [0, 1, 0]
    recorded = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (recorded["prompt"], recorded["negative_prompt"]) == (prompts, "blue")
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 3

    checkpoint = models.load(folder, prompts=prompts, negative="blue", height=16, width=32)
    model: Any = checkpoint.model
    expected = scoresde.sample(
        model.called(scale=3.0),
        nfe=3,
        shape=(3, *checkpoint.shape),
        seeds=range(3),
        cond={"label": torch.tensor([0, 1, 0])},
        batch_size=3,
        decode=checkpoint.decode,
    )
    np.testing.assert_array_equal(found.samples, expected.samples.numpy())

    assert main([*command, *more]) == 0
    assert "already in" in capsys.readouterr().out
    other = [item.replace("dogs", "cats") for item in command]
    assert main([*other, *more]) == 1
    assert "holds results made with other values of prompt: choose another folder" in capsys.readouterr().err


def test_prompts_are_lines_of_a_file_whose_content_is_recorded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, settings = tmp_path / "prompts.txt", ("n=2", "nfe=2", "batch_size=2")
    lines.write_text("\ufeffa red cat\n\n  dogs \n", encoding="utf-8")
    command = ask("sample", folder, tmp_path / "file", f"prompts={lines}", *settings)
    assert main(command) == 0
    assert main(ask("sample", folder, tmp_path / "list", "prompt=[a red cat, dogs]", *settings)) == 0
    one, two = (shards.load(tmp_path / name) for name in ("file", "list"))
    np.testing.assert_array_equal(one.samples, two.samples)
    lines.write_text("a red cat\ncows\n")
    assert main(command) == 1
    assert "other content of prompts, at the same path" in capsys.readouterr().err


def test_an_image_and_a_mask_are_begun_with(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cat, mask = pictures(tmp_path)
    settings = ("prompt=a cat", f"image={cat}", "n=2", "nfe=6")
    assert main(ask("sample", folder, tmp_path / "half", *settings, "strength=0.5")) == 0
    assert ": 3 NFE" in capsys.readouterr().out
    command = ask("sample", folder, tmp_path / "masked", *settings, f"mask={mask}")
    assert main(command) == 0
    assert ": 6 NFE" in capsys.readouterr().out
    recorded = yaml.safe_load((tmp_path / "masked" / "config.yaml").read_text())
    assert recorded["strength"] == 1.0 and set(recorded["inputs"]) == {"image", "mask"}
    Image.new("L", (16, 16), 255).save(mask)
    assert main(command) == 1
    assert "other content of mask, at the same path" in capsys.readouterr().err


def test_an_image_is_begun_with_by_any_model(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cat, mask = pictures(tmp_path)
    settings = [f"model={model}", f"image={cat}", f"mask={mask}", "n=2", "nfe=3", f"out={tmp_path / 'out'}"]
    assert main(["sample", *settings]) == 0
    found = shards.load(tmp_path / "out").samples
    assert found is not None
    grey = np.asarray(Image.open(cat).convert("L").resize((8, 8), Image.Resampling.LANCZOS)) / 127.5 - 1
    np.testing.assert_allclose(found[:, 0, :, 4:], np.stack([grey[:, 4:]] * 2), atol=1e-5)
    assert np.abs(found[0, 0, :, :4] - grey[:, :4]).min() > 1e-4


def test_solvers_are_compared_over_prompts_by_error_time_and_clip(
    folder: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], unplotted: None
) -> None:
    settings = ("prompt=[a red cat, dogs]", "n=4", "batch_size=4", "solvers=[ddim]", "nfe=[2,4]", "reference_nfe=10")
    assert main(ask("bench", folder, tmp_path / "bench", *settings, f"clip={clip}", "guidances=[null,1]")) == 0
    rows = [json.loads(line) for line in (tmp_path / "bench" / "results.jsonl").read_text().splitlines()]
    assert [row["guidance"] for row in rows] == ["classifier_free(scale=7.5)"] * 2 + ["classifier_free(scale=1)"] * 2
    for row in rows:
        assert set(row["metrics"]) == {"error", "clip_score"} and row["seconds"] > 0 and row["feature_space"] == ""
    for first, second in (rows[:2], rows[2:]):
        assert 0 < second["metrics"]["error"]["value"] < first["metrics"]["error"]["value"]
    assert "| CLIP score |" in capsys.readouterr().out
    cat, _ = pictures(tmp_path)
    begun = ask("bench", folder, tmp_path / "edits", *settings, f"image={cat}", "strength=0.5", "timing=[1]")
    assert main(begun) == 0
    said = capsys.readouterr().out  # the usual CLIP is not here, which is a note and no error
    assert "note: no CLIP score: openai/clip-vit-base-patch16 is not in the cache" in said
    rows = [json.loads(line) for line in (tmp_path / "edits" / "results.jsonl").read_text().splitlines()]
    assert [(row["nfe"], set(row["metrics"])) for row in rows] == [(1, {"error"}), (2, {"error"})]
    timed = [json.loads(line) for line in (tmp_path / "edits" / "timings.jsonl").read_text().splitlines()]
    assert [(timing["nfe"], timing["batch"]) for timing in timed] == [(1, 1), (2, 1)]
    assert main(["report", str(tmp_path / "bench")]) == 0
    assert "No distance of distributions was measured; 4 samples each." in (tmp_path / "bench/report.html").read_text()


def test_features_are_chosen_for_prompts_once_there_is_something_to_compare_with(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], unplotted: None
) -> None:
    settings = ("prompt=a cat", "n=4", "batch_size=4", "solvers=[ddim]", "nfe=[2]", "reference_nfe=10", "clip=null")
    command = ask("bench", folder, tmp_path / "out", *settings, "metrics=[fid]")
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "metrics=['fid'] compare with images, and none come with a StableDiffusionPipeline: give reference=" in said
    assert not (tmp_path / "out").exists()
    assert main([*command, "reference=converged"]) == 0
    chosen = spaces.chosen((3, 16, 16))
    assert f"features={chosen}: the model has none of its own" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["features"]["name"] == chosen
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert set(row["metrics"]) == {"fid", "error"} and row["feature_space"]


def test_the_way_from_an_image_is_kept_by_any_model(model: str, tmp_path: Path) -> None:
    cat, _ = pictures(tmp_path)
    settings = [f"model={model}", f"image={cat}", "strength=0.5", "n=2", "nfe=6", "trajectory=2"]
    assert main(["sample", *settings, f"out={tmp_path / 'out'}"]) == 0
    ways = np.load(tmp_path / "out" / shards.TRAJECTORY)
    assert len(ways["times"]) == 4 and ways["images"].shape == (4, 2, 1, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            (),
            "a StableDiffusionPipeline makes images of text: give prompt='a red cat', a list of such, or prompts=FILE",
        ),
        (("prompt=a", "label=3"), "label=3 is of models of classes, and prompt of models of text: give one"),
        (("prompt=a", "prompts=b.txt"), "give prompt or prompts, not both"),
        (("prompts=nowhere.txt",), "there is no file 'nowhere.txt' for prompts; a prompt itself is given by prompt="),
        (("prompt=[]",), "prompt must be a text, or a list of one or more, got []"),
        (("prompt=[1, a]",), "prompt must be a text, or a list of texts, got 1: write it in quotes"),
        (("prompt=a", "negative_prompt=[a, b]"), "one negative prompt, or one for each of 1; got 2"),
        (("prompt=a", "height=20"), "height must be a multiple of 8 up to 16384 for StableDiffusionPipeline, got 20"),
        (("prompt=a", "shape=[4,8,8]"), "shape is of models without prompts"),
        (("prompt=a", "strength=0.5"), "strength is of an image that samples begin with: give image=PICTURE"),
        (("prompt=a", "mask=m.png"), "mask is of an image that samples begin with: give image=PICTURE"),
        (("prompt=a", "image=nowhere.png"), "there is no picture 'nowhere.png'"),
        (("prompt=a", "image=CAT", "strength=0"), "strength must be a number above 0 and up to 1, got 0"),
        (("prompt=a", "image=CAT", "strength=2"), "strength must be a number above 0 and up to 1, got 2"),
        (("prompt=a", "image=CAT", "solver=pf_ode"), "chooses its own steps, and strength is a share of the steps"),
        (("prompt=a", "guidance=autoguidance", "guidance.weak=mnist"), "a pipeline guides by itself"),
        (("prompt=a", "guidance=classifier_free", "guidance.unconditional=1"), "give negative_prompt="),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_one_line_before_anything_is_written(
    settings: tuple[str, ...], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat, _ = pictures(tmp_path)
    given = [item.replace("CAT", str(cat)) for item in settings]
    assert main(ask("sample", folder, tmp_path / "out", "n=2", "nfe=2", *given)) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_models_without_text_take_no_prompt(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "prompt=a cat", f"out={tmp_path / 'out'}"]) == 1
    assert "'mnist' is no pipeline of diffusers, and so takes no prompt" in capsys.readouterr().err
    assert main(["sample", "negative_prompt=a cat", f"out={tmp_path / 'out'}"]) == 1
    assert "negative_prompt is of pipelines that are given a prompt" in capsys.readouterr().err
    tiny_pipelines.ddpm().save_pretrained(tmp_path / "pixels")
    assert main(ask("sample", tmp_path / "pixels", tmp_path / "out", "prompt=a cat")) == 1
    said = capsys.readouterr().err
    assert "is a DDPMPipeline, and the pipelines that are run with prompts are StableDiffusionPipeline, " in said
    assert main(["sample", "promt=a cat"]) == 2
    assert "sample has no setting 'promt'; did you mean 'prompt'?" in capsys.readouterr().err


def test_a_prompt_that_is_too_long_is_cut_and_that_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a cat that is longer than twelve letters"
    assert main(ask("sample", folder, tmp_path / "out", f"prompt={long}", "n=1", "nfe=1")) == 0
    said = capsys.readouterr().err
    assert said == "scoresde: note: 1 of 1 prompts are longer than the 12 tokens of tokenizer and are cut for it, " + (
        f"the first {long!r}\n"
    )


class StoppedError(ValueError):
    """Nothing is fitted."""


def test_a_pipeline_is_tuned_with_its_prompts_over_a_range_of_scales(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}

    def stop(model: Any, **options: Any) -> None:
        found.update(options, model=model)
        raise StoppedError

    monkeypatch.setattr(scoresde, "tune", stop)
    scales = ("guidance=classifier_free", "guidance.scale=[1,3]")
    assert main(ask("tune", folder, tmp_path / "tuned", "prompt=[a cat, dogs]", "nfe=2", "n=16", *scales)) == 1
    model, shape = found["model"], (2, *found["shape"])
    assert found["cond"]["label"].tolist() == [0, 1] * 8
    assert (model.scales, model.guidance) == ((1.0, 3.0), "StableDiffusionPipeline(guidance_scale=1 to 3)")
    x, label = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    with torch.no_grad():
        both = model.output(x, 500.0, label=label, guidance_scale=torch.tensor([1.0, 3.0]))
        for row, scale in enumerate((1.0, 3.0)):
            alone = model.called(scale=scale).output(x, 500.0, label=label)
            torch.testing.assert_close(both[row], alone[row], atol=1e-4, rtol=1e-4)
