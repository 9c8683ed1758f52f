"""Text encoders and tokenizers of a stranger's pipeline: nothing that they name runs, damaged ones are one line."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.agreement import tiny_pipelines
from scoresde import models
from scoresde.models import CheckpointError

CODE = "import pathlib\npathlib.Path('touched').write_text('')\n\n\nclass Model:\n    pass\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pipelines") / "theirs"
    tiny_pipelines.stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture
def theirs(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(whole, tmp_path / "theirs"))


def load(folder: Path) -> Any:
    return models.load(folder, prompts=["a red cat"])


def change(path: Path, **settings: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **settings}), encoding="utf-8")


def refused(folder: Path, words: str) -> None:
    with pytest.raises((CheckpointError, ValueError), match=words) as found:
        load(folder)
    assert str(found.value).count("\n") == 0


def own_code(folder: Path) -> None:
    """Files of Python, where libraries look for those that a configuration names."""
    for place in (folder, folder / "text_encoder", folder / "tokenizer"):
        for name in ("modeling", "tokenization", "configuration", "evil"):
            (place / f"{name}.py").write_text(CODE, encoding="utf-8")


@pytest.mark.parametrize(
    "ask",
    [
        lambda folder: change(folder / "text_encoder/config.json", auto_map={"AutoModel": "modeling.Model"}),
        lambda folder: change(folder / "text_encoder/config.json", auto_map={"AutoConfig": "evil--repo.Model"}),
        lambda folder: change(folder / "text_encoder/config.json", architectures=["evil.Model"]),
        lambda folder: change(folder / "text_encoder/config.json", attn_implementation="evil/kernels"),
        lambda folder: change(folder / "text_encoder/config.json", _attn_implementation="evil/kernels:forward"),
        lambda folder: change(
            folder / "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Model", None]}
        ),
        lambda folder: change(folder / "tokenizer/tokenizer_config.json", chat_template="{{ 7 // 0 }}"),
    ],
    ids=range(7),
)
def test_code_that_a_text_encoder_or_tokenizer_names_never_runs(ask: Callable[[Path], None], theirs: Path) -> None:
    expected = load(theirs).model.net
    own_code(theirs)
    ask(theirs)
    found = load(theirs)
    assert found.classes == 1 and type(found.model.net) is type(expected)
    assert not Path("touched").exists()


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
@pytest.mark.parametrize(
    "kind", [["evil", "Model"], ["os", "system"], ["transformers", "pipeline"], ["diffusers", "x"]]
)
def test_a_text_encoder_or_tokenizer_is_of_a_class_that_is_known(part: str, kind: list[str], theirs: Path) -> None:
    own_code(theirs)
    change(theirs / "model_index.json", **{part: kind})
    refused(theirs, re.escape(kind[1]))
    assert not Path("touched").exists()


def test_adapters_which_lead_to_weights_elsewhere_are_refused(theirs: Path) -> None:
    change(theirs / "text_encoder" / "adapter_config.json", peft_type="LORA", base_model_name_or_path="evil/model")
    refused(theirs, "adapter_config.json: text encoders are read whole, without adapters")


class Touches:
    def __reduce__(self) -> Any:
        return os.mkdir, ("touched",)


def test_pickled_weights_of_a_text_encoder_are_looked_at_first(theirs: Path) -> None:
    stored = theirs / "text_encoder" / "model.safetensors"
    torch.save({**load_file(stored), "more": Touches()}, stored.with_name("pytorch_model.bin"))
    stored.unlink()
    refused(theirs, "holds posix.mkdir, and weights are tensors alone")
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers = 10000000"),
        ({"vocab_size": 10**9}, "config.json"),
        ({"quantization_config": {"quant_method": "evil"}}, "quantization_config"),
    ],
)
def test_settings_of_a_text_encoder_are_held_against_its_weights(
    settings: dict[str, Any], words: str, theirs: Path
) -> None:
    change(theirs / "text_encoder" / "config.json", **settings)
    refused(theirs, words)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_one_line(content: bytes, theirs: Path) -> None:
    files = sorted((theirs / "tokenizer").iterdir())
    for path in files:
        if path.name != "tokenizer_config.json":
            path.write_bytes(content)
    refused(theirs, "tokenizer")


def test_a_tokenizer_that_is_not_there_is_named(theirs: Path) -> None:
    shutil.rmtree(theirs / "tokenizer")
    refused(theirs, "has no tokenizer, which its model_index.json names")
