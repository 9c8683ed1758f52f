"""What a run was made on, in words."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}  # flags of processors, Intel's and AMD's, and ARM's


def cpu() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by instructions of its own: elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        try:
            return not NATIVE.isdisjoint(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        except OSError:  # not Linux
            return False
    return device.type == "xpu"


def describe(device: torch.device) -> str:
    """The GPU's name, or the processor's and how many of its threads are used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu()}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
