"""Small checkpoints in the authors' format: keys and shapes written from docs/qtseg.md alone, weights drawn from their keys.

Nothing here knows our parameter names, so a wrong mapping cannot cancel out. `test_foreign.py` compares the keys and shapes of the
default network with the authors' own list where the reference is present.
"""

from __future__ import annotations

import functools
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """`n_channel`, `num_classes`, `mask_depths`, `mask_num_head`, `mask_mlp_dim`, `img_size` of a cfg.json."""

    width: int = 8
    classes: int = 3
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int = 4
    mlp_width: int = 32
    side: int = 64

    def cfg(self) -> dict[str, object]:
        n = self.width
        return {
            "n_channel": n,
            "num_classes": self.classes,
            "encoder_out_features": [4 * n, 8 * n, 16 * n],
            "mask_depths": list(self.depths),
            "mask_num_head": self.heads,
            "mask_mlp_dim": self.mlp_width,
            "img_size": self.side,
            "optimizer": "adamw",
        }


TWO_CLASSES = Size(width=4, classes=2, depths=(1, 1, 1), heads=2, mlp_width=8)
PAPER = Size(width=16, classes=2, depths=(1, 2, 3), heads=8, mlp_width=2048, side=352)


def write_checkpoint(folder: Path, size: Size = TWO_CLASSES, name: str = "weight_best_dice.pt") -> Path:
    """A bare state dict and its cfg.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(size.cfg()), encoding="utf-8")
    (folder / name).write_bytes(_file(size))
    return folder / name


def weights(size: Size) -> dict[str, Tensor]:
    """Every tensor seeded by its key; gains chosen so that all branches reach the logits and none explodes."""
    loaded: dict[str, Tensor] = torch.load(io.BytesIO(_file(size)), weights_only=True)
    return loaded


@functools.cache
def _file(size: Size) -> bytes:
    buffer = io.BytesIO()
    torch.save({key: _tensor(key, shape) for key, shape in shapes(size).items()}, buffer)
    return buffer.getvalue()


def shapes(size: Size) -> dict[str, Shape]:
    return dict([*_encoder(size.width), *_bridge(size.width), *_decoder(size)])


def _tensor(key: str, shape: Shape) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(7)
    random = np.random.RandomState(zlib.crc32(key.encode()))
    noise = random.standard_normal(shape)
    if key.endswith("running_var"):
        values = 0.5 + random.random_sample(shape)
    elif key.endswith("gamma"):
        values = 0.6 + 0.1 * noise
    elif key.endswith(("gaussian_matrix", "mask_tokens.weight")):
        values = noise
    elif len(shape) == 1:
        values = (1.0 if key.endswith("weight") else 0.0) + 0.2 * noise
    else:
        transposed = "conv_transpose" in key or "SUB_s" in key
        fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
        gain = 1.5 if key.startswith("image_encoder") else 1.0  # SiLU shrinks: at 1 nothing of the image is left after twenty layers
        values = noise * gain / np.sqrt(fan_in)
    return torch.from_numpy(np.asarray(values, np.float32))


def _conv(key: str, c_in: int, c_out: int, kernel: int = 1, up: int = 0) -> Iterator[tuple[str, Shape]]:
    if up:
        yield f"{key}.conv_transpose.weight", (c_in, c_out, up, up)
    else:
        yield f"{key}.conv.weight", (c_out, c_in, kernel, kernel)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{key}.bn.{leaf}", (c_out,)
    yield f"{key}.bn.num_batches_tracked", ()


def _c2f(key: str, c_in: int, c_out: int, bottlenecks: int) -> Iterator[tuple[str, Shape]]:
    half = c_out // 2
    yield from _conv(f"{key}.cv1", c_in, 2 * half)
    yield from _conv(f"{key}.cv2", (2 + bottlenecks) * half, c_out)
    for m in range(bottlenecks):
        yield from _conv(f"{key}.m.{m}.cv1", half, half, 3)
        yield from _conv(f"{key}.m.{m}.cv2", half, half, 3)


def _encoder(n: int) -> Iterator[tuple[str, Shape]]:
    convs = {0: (3, n), 1: (n, 2 * n), 3: (2 * n, 4 * n), 5: (4 * n, 8 * n), 7: (8 * n, 16 * n), 16: (4 * n, 4 * n), 19: (8 * n, 8 * n)}
    c2fs = {2: (2, 2, 1), 4: (4, 4, 2), 6: (8, 8, 2), 8: (16, 16, 1), 12: (24, 8, 1), 15: (12, 4, 1), 18: (12, 8, 1), 21: (24, 16, 1)}
    for layer, (c_in, c_out) in convs.items():
        yield from _conv(f"image_encoder.conv_{layer}", c_in, c_out, 3)
    for layer, (c_in, c_out, bottlenecks) in c2fs.items():
        yield from _c2f(f"image_encoder.c2f_{layer}", c_in * n, c_out * n, bottlenecks)
    yield from _conv("image_encoder.sppf_9.cv1", 16 * n, 8 * n)
    yield from _conv("image_encoder.sppf_9.cv2", 32 * n, 16 * n)


def _bridge(n: int) -> Iterator[tuple[str, Shape]]:
    of = (4 * n, 8 * n, 16 * n)
    for level, source, out, kernel, up in [
        (0, 0, 2, 1, 0), (0, 1, 1, 0, 2), (0, 2, 1, 0, 4),
        (1, 0, 2, 3, 0), (1, 1, 4, 1, 0), (1, 2, 2, 0, 2),
        (2, 0, 4, 3, 0), (2, 1, 4, 3, 0), (2, 2, 8, 1, 0),
    ]:  # fmt: skip
        yield from _conv(f"bridge.neck_{level}_{source}", of[source], out * n, kernel, up)


def _affine(key: str, shape: Shape, out: int) -> Iterator[tuple[str, Shape]]:
    yield f"{key}.weight", shape
    yield f"{key}.bias", (out,)


def _attention(key: str, c: int) -> Iterator[tuple[str, Shape]]:
    for projection in ("q_proj", "k_proj", "v_proj"):
        yield from _affine(f"{key}.{projection}", (c // 2, c), c // 2)
    yield from _affine(f"{key}.out_proj", (c, c // 2), c)


def _block(key: str, c: int, mlp_width: int) -> Iterator[tuple[str, Shape]]:
    mix = f"{key}.dm_attention"
    yield f"{mix}.spatial_attention.cv1.weight", (1, 2, 7, 7)
    yield f"{mix}.channel_attention.gamma", (1,)
    yield from _attention(f"{mix}.spatial_token_mix_attention", c)
    yield from _attention(f"{mix}.channel_token_mix_attention", c)
    yield from _affine(f"{mix}.token_layernorm", (c,), c)
    yield from _affine(f"{key}.token_mlp.lin1", (mlp_width, c), mlp_width)
    yield from _affine(f"{key}.token_mlp.lin2", (c, mlp_width), c)
    yield from _affine(f"{key}.token_layernorm", (c,), c)
    yield from _attention(f"{key}.feature_mix", c)


def _decoder(size: Size) -> Iterator[tuple[str, Shape]]:
    n = size.width
    yield "mask_decoder.mask_tokens.weight", (size.classes, 16 * n)
    for level, c, below in [(2, 16 * n, 8 * n), (1, 8 * n, 4 * n), (0, 4 * n, 4 * n)]:
        yield f"mask_decoder.PE_s{level}.positional_encoding_gaussian_matrix", (2, c // 2)
        stage = f"mask_decoder.DMAB_s{level}"
        for block in range(size.depths[level]):
            yield from _block(f"{stage}.layers.{block}", c, size.mlp_width)
        yield from _attention(f"{stage}.final_attn_token_to_image", c)
        yield from _affine(f"{stage}.norm_final_attn", (c,), c)
        for token in range(size.classes):
            for layer, out in enumerate((c, c, below)):
                yield from _affine(f"mask_decoder.MLP_s{level}.{token}.layers.{layer}", (out, c), out)
        up = f"mask_decoder.SUB_s{level}"
        first = below if level else c // 2
        yield from _affine(f"{up}.0", (c, first, 2, 2), first)
        yield from _affine(f"{up}.1", (first,), first)
        if level == 0:
            yield from _affine(f"{up}.3", (first, c, 2, 2), c)
            yield from _affine(f"{up}.4", (c,), c)
