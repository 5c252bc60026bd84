"""The network once more, slowly: numpy in float64, written from docs/qtseg.md alone, run on the authors' keys.

One image at a time, pixels and heads in plain loops. Shapes: C channels, H W pixels, K tokens; token lists (K, C), pixel lists (P, C).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Weights:
    """Tensors under a common prefix."""

    tensors: Mapping[str, Array]
    prefix: str = ""

    def __getitem__(self, leaf: str) -> Array:
        return self.tensors[self.prefix + leaf]

    def __truediv__(self, name: object) -> Weights:
        return Weights(self.tensors, f"{self.prefix}{name}.")

    def count(self, pattern: str) -> int:
        """How many of pattern.format(0), pattern.format(1)... there are."""
        found = 0
        while any(key.startswith(self.prefix + pattern.format(found)) for key in self.tensors):
            found += 1
        return found


def logits(state: Mapping[str, Array], image: Array, heads: int) -> Array:
    """image (3, H, W) -> (K, H, W)."""
    weights = Weights(state)
    levels = distribute(weights / "bridge", encode(weights / "image_encoder", image))
    decoder = weights / "mask_decoder"
    tokens, x = decoder["mask_tokens.weight"], levels[2]
    for level in (2, 1, 0):
        x = x if level == 2 else x + levels[level]
        tokens, x = stage(decoder, level, tokens, x, heads)
    return np.stack([twice_bilinear(np.tensordot(token, x, 1)) for token in tokens])


# --- convolutions -------------------------------------------------------------------------------------------------------------------


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def convolution(x: Array, weight: Array, stride: int = 1) -> Array:
    out_channels, _, kernel, _ = weight.shape
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height, width = ((side + 2 * pad - kernel) // stride + 1 for side in x.shape[1:])
    out = np.zeros((out_channels, height, width))
    for i in range(kernel):
        for j in range(kernel):
            seen = padded[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            out += np.tensordot(weight[:, :, i, j], seen, 1)
    return out


def transposed_convolution(x: Array, weight: Array) -> Array:
    """Kernel = stride: every pixel paints its own square."""
    _, out_channels, factor, _ = weight.shape
    out = np.zeros((out_channels, x.shape[1] * factor, x.shape[2] * factor))
    for i in range(factor):
        for j in range(factor):
            out[:, i::factor, j::factor] = np.tensordot(weight[:, :, i, j].T, x, 1)
    return out


def batch_norm(w: Weights, x: Array) -> Array:
    scale = w["weight"] / np.sqrt(w["running_var"] + 1e-5)
    return (x - w["running_mean"][:, None, None]) * scale[:, None, None] + w["bias"][:, None, None]


def conv(w: Weights, x: Array, stride: int = 1) -> Array:
    return silu(batch_norm(w / "bn", convolution(x, w["conv.weight"], stride)))


def up_conv(w: Weights, x: Array) -> Array:
    return silu(batch_norm(w / "bn", transposed_convolution(x, w["conv_transpose.weight"])))


def c2f(w: Weights, x: Array, shortcut: bool) -> Array:
    first, second = np.split(conv(w / "cv1", x), 2)
    kept = [first, second]
    for m in range(w.count("m.{}.")):
        y = conv(w / "m" / m / "cv2", conv(w / "m" / m / "cv1", kept[-1]))
        kept.append(kept[-1] + y if shortcut else y)
    return conv(w / "cv2", np.concatenate(kept))


def max_pool(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)), constant_values=-np.inf)
    height, width = x.shape[1:]
    return np.max([padded[:, i : i + height, j : j + width] for i in range(5) for j in range(5)], axis=0)


def sppf(w: Weights, x: Array) -> Array:
    pooled = [conv(w / "cv1", x)]
    for _ in range(3):
        pooled.append(max_pool(pooled[-1]))
    return conv(w / "cv2", np.concatenate(pooled))


def twice_nearest(x: Array) -> Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def twice_bilinear(x: Array) -> Array:
    """(H, W) -> (2H, 2W), pixel centres aligned at the half pixel."""
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        out = np.empty((2 * len(x), *x.shape[1:]))
        for i in range(len(out)):
            position = max((i + 0.5) / 2 - 0.5, 0)
            low = int(position)
            high = min(low + 1, len(x) - 1)
            out[i] = x[low] * (1 - position + low) + x[high] * (position - low)
        x = np.moveaxis(out, 0, axis)
    return x


def encode(w: Weights, image: Array) -> tuple[Array, Array, Array]:
    x = c2f(w / "c2f_2", conv(w / "conv_1", conv(w / "conv_0", image, 2), 2), True)
    e4 = c2f(w / "c2f_4", conv(w / "conv_3", x, 2), True)
    e6 = c2f(w / "c2f_6", conv(w / "conv_5", e4, 2), True)
    e9 = sppf(w / "sppf_9", c2f(w / "c2f_8", conv(w / "conv_7", e6, 2), True))
    p12 = c2f(w / "c2f_12", np.concatenate([twice_nearest(e9), e6]), False)
    p3 = c2f(w / "c2f_15", np.concatenate([twice_nearest(p12), e4]), False)
    p4 = c2f(w / "c2f_18", np.concatenate([conv(w / "conv_16", p3, 2), p12]), False)
    p5 = c2f(w / "c2f_21", np.concatenate([conv(w / "conv_19", p4, 2), e9]), False)
    return p3, p4, p5


def distribute(w: Weights, features: tuple[Array, Array, Array]) -> list[Array]:
    strides = [[1, 0, 0], [2, 1, 0], [4, 2, 1]]  # 0: upwards, by the size of its own kernel
    levels = []
    for level in range(3):
        necks = [(w / f"neck_{level}_{source}", strides[level][source], x) for source, x in enumerate(features)]
        levels.append(np.concatenate([conv(neck, x, stride) if stride else up_conv(neck, x) for neck, stride, x in necks]))
    return levels


# --- decoder ------------------------------------------------------------------------------------------------------------------------


def linear(w: Weights, x: Array) -> Array:
    return x @ w["weight"].T + w["bias"]


def layer_norm(w: Weights, x: Array, eps: float = 1e-5) -> Array:
    """Over the last axis."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * w["weight"] + w["bias"]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(w: Weights, query: Array, key: Array, value: Array, heads: int) -> Array:
    q, k, v = linear(w / "q_proj", query), linear(w / "k_proj", key), linear(w / "v_proj", value)
    wide = q.shape[1] // heads
    out = np.empty_like(q)
    for head in range(heads):
        own = slice(head * wide, (head + 1) * wide)
        for i in range(len(q)):
            scores = np.array([q[i, own] @ k[j, own] / math.sqrt(wide) for j in range(len(k))])
            out[i, own] = sum(share * v[j, own] for j, share in enumerate(softmax(scores)))
    return linear(w / "out_proj", out)


def spatial_attention(weight: Array, x: Array, size_hw: tuple[int, int]) -> Array:
    """x (P, C); weight (1, 2, 7, 7), over the mean and the maximum of the channels."""
    summary = np.stack([x.mean(1).reshape(size_hw), x.max(1).reshape(size_hw)])
    gate = 1 / (1 + np.exp(-convolution(summary, weight).reshape(-1)))
    return x * gate[:, None] + x


def channel_attention(gamma: float, x: Array) -> Array:
    """x (P, C)."""
    pixels, channels = x.shape
    out = np.empty_like(x)
    for c in range(channels):
        affinity = np.array([sum(x[p, c] * x[p, d] for p in range(pixels)) for d in range(channels)])
        shares = softmax(affinity.max() - affinity)
        out[:, c] = gamma * (x @ shares) + x[:, c]
    return out


def dual_mix_block(w: Weights, t: Array, x: Array, e: Array, size_hw: tuple[int, int], heads: int) -> tuple[Array, Array]:
    mix = w / "dm_attention"
    s = spatial_attention(mix["spatial_attention.cv1.weight"], x + e, size_hw)
    c = channel_attention(mix["channel_attention.gamma"].item(), x + e)
    seen = attention(mix / "spatial_token_mix_attention", t, s, s, heads) + attention(mix / "channel_token_mix_attention", t, c, c, heads)
    u = layer_norm(mix / "token_layernorm", seen + t)
    mlp = w / "token_mlp"
    t_out = layer_norm(w / "token_layernorm", linear(mlp / "lin2", gelu(linear(mlp / "lin1", u)))) + t
    return t_out, attention(w / "feature_mix", s + c + e, u, u, heads) + x


def positional_encoding(gaussian: Array, height: int, width: int) -> Array:
    """(H*W, C), row by row."""
    rows = []
    for y in range(height):
        for x in range(width):
            across, down = 2 * (x + 0.5) / width - 1, 2 * (y + 0.5) / height - 1
            angle = 2 * math.pi * (across * gaussian[0] + down * gaussian[1])
            rows.append(np.concatenate([np.sin(angle), np.cos(angle)]))
    return np.array(rows)


def stage(w: Weights, level: int, tokens: Array, features: Array, heads: int) -> tuple[Array, Array]:
    """tokens (K, C), features (C, H, W) -> both for the next level."""
    channels, *size = features.shape
    size_hw = (size[0], size[1])
    x, t = features.reshape(channels, -1).T, tokens
    e = positional_encoding(w[f"PE_s{level}.positional_encoding_gaussian_matrix"], *size_hw)
    blocks = w / f"DMAB_s{level}"
    for block in range(blocks.count("layers.{}.")):
        t, x = dual_mix_block(blocks / "layers" / block, t, x, e, size_hw, heads)
    t = layer_norm(blocks / "norm_final_attn", t + attention(blocks / "final_attn_token_to_image", t + tokens, x + e, x, heads))
    down = np.stack([token_mlp(w / f"MLP_s{level}" / k / "layers", t[k]) for k in range(len(t))])
    up = w / f"SUB_s{level}"
    grown = upsample(up / 0, up / 1, x.T.reshape(features.shape))
    return down, grown if level else upsample(up / 3, up / 4, grown)


def token_mlp(w: Weights, token: Array) -> Array:
    relu: Callable[[Array], Array] = lambda x: np.maximum(x, 0)  # noqa: E731
    return linear(w / 2, relu(linear(w / 1, relu(linear(w / 0, token)))))


def upsample(convolve: Weights, norm: Weights, x: Array) -> Array:
    grown = transposed_convolution(x, convolve["weight"]) + convolve["bias"][:, None, None]
    return np.moveaxis(gelu(layer_norm(norm, np.moveaxis(grown, 0, -1), 1e-6)), -1, 0)
