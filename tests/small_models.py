"""A small network with every branch alive and masks that depend on the picture, so that a test of it has something to get wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch.optim.swa_utils import update_bn

from qtseg_edge.data import image_files, read_image
from qtseg_edge.export import example_frames
from qtseg_edge.model.checkpoint import save_checkpoint
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network
from qtseg_edge.spec import ModelCard, Normalisation
from qtseg_edge.transforms import Letterbox

COLOURS = ((0, 0, 0), (0, 200, 120), (230, 90, 60))


def small_network(classes: int, seed: int = 7) -> tuple[QTSeg, NetworkConfig]:
    torch.manual_seed(seed)
    config = NetworkConfig(width=8, classes=classes, depths=(1, 1, 1), heads=4, mlp_width=32)
    network = build_network(config).eval()
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.endswith("gamma"):
                tensor.fill_(0.3)
            elif "stage0.token_mlp.weights.2" in name:
                tensor.mul_(20)
        inputs = _inputs()
        update_bn([inputs], network)  # without fitting statistics the picture would fade away on its way to the decoder
        _balance(network.eval(), inputs)
    return network, config


def write_checkpoint(
    path: Path,
    classes: int = 2,
    normalisation: Normalisation = "scale",
    size_hw: tuple[int, int] = (96, 96),
    dtype: torch.dtype = torch.float32,
    seed: int = 7,
) -> Path:
    network, config = small_network(classes, seed)
    names = ("background", "polyp", "instrument")[:classes]
    card = ModelCard("small", names, COLOURS[:classes], size_hw, normalisation, licence="CC0")
    save_checkpoint(path, network, config, card, dtype)
    return path


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A file for all tests of a run, which may be of several processes: one makes it and the others wait."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / name
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make(path)
    return path


def _inputs() -> torch.Tensor:
    frames = [read_image(path) for path in image_files(example_frames())]
    stacked = np.stack([Letterbox(frame.shape[:2], (96, 96)).frame(frame) for frame in frames])  # type: ignore[arg-type]
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() * (2 / 255) - 1  # (6, 3, 96, 96)


def _balance(network: QTSeg, inputs: torch.Tensor) -> None:
    """Move the tokens so that no class wins on average: then the mask is decided by the picture."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    decoder = network.decoder
    handle = decoder.stage0.register_forward_hook(lambda module, given, result: seen.append(result))  # type: ignore[union-attr]
    network(inputs)
    handle.remove()
    tokens, features = seen[0]  # (N, K, C), (N, C, H, W)
    mean = features.mean(dim=(0, 2, 3))  # (C,)
    excess = (tokens.mean(dim=0) @ mean) / mean.square().sum()  # (K,)
    decoder.stage0.token_mlp.biases[2].sub_(excess[:, None, None] * mean)  # type: ignore[union-attr, operator, index]
