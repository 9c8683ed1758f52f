"""The CLIP score is that of transformers' own model, of images as its own processor prepares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from benchmarks.agreement import tiny_pipelines
from scoresde.metrics import ClipScore

SIDE, PROMPTS = 16, ["a red cat", "dogs"]


def test_the_score_is_a_hundred_cosines_of_transformers_own_embeddings() -> None:
    torch.manual_seed(1)
    words: Any = tiny_pipelines.tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    text = {**sizes, **ends, "vocab_size": len(words), "max_position_embeddings": tiny_pipelines.LENGTH}
    vision = {**sizes, "image_size": SIDE, "patch_size": 8}
    network: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 40, 3), dtype=np.uint8)
    labels = torch.tensor([0, 1, 1, 0])

    lib: Any = transformers
    processor = lib.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    images = processor([Image.fromarray(image) for image in pixels], return_tensors="pt").pixel_values
    tokens = words(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = network(pixel_values=images, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    cosine = (out.image_embeds * out.text_embeds[labels]).sum(1)
    score = ClipScore(network, words, PROMPTS)
    found = score(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels)
    assert found.value == pytest.approx(float(100 * cosine.clamp(min=0).mean()), abs=0.3)  # resized by another library
    assert found.low is not None and found.low <= found.value
    with pytest.raises(ValueError, match="needs the number of each image's prompt"):
        score(torch.from_numpy(pixels).permute(0, 3, 1, 2), None)
