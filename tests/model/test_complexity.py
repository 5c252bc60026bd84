from __future__ import annotations

import pytest
import torch
from torch import nn

from qtseg_edge.model.backbone import BackboneConfig
from qtseg_edge.model.complexity import multiply_accumulates, parameter_counts
from qtseg_edge.model.network import NetworkConfig, build_network
from tests.model.backbones import SMALL, with_backbone


def in_units(counts: dict[str, int], unit: float) -> dict[str, float]:
    return {part: round(count / unit, 3) for part, count in counts.items()}


def test_the_papers_network_has_the_published_parameters() -> None:
    counts = in_units(parameter_counts(build_network(NetworkConfig())), 1e6)
    assert counts == {"encoder": 2.260, "distribution": 0.279, "decoder": 6.676, "total": 9.215}


def test_the_papers_network_needs_2_56_gmac_at_512() -> None:
    counts = in_units(multiply_accumulates(NetworkConfig(), (512, 512)), 1e9)
    assert counts["total"] == 2.559
    assert round(counts["encoder"] + counts["distribution"] + counts["decoder"], 3) == 2.559


def test_pvt_v2_b0_needs_about_what_its_paper_says() -> None:
    """arXiv 2106.13797 gives 0.6 GFLOPs at 224, in multiply-accumulates and with its classifier."""
    encoder = multiply_accumulates(with_backbone(BackboneConfig.pvt_v2_b0()), (224, 224))["encoder"]
    assert encoder == pytest.approx(0.6e9, rel=0.15)


def test_the_encoders_count_is_that_of_its_convolutions() -> None:
    """Counted by hand from what every convolution gives; the CNN has nothing else that multiplies."""
    encoder = build_network(SMALL).encoder.eval()
    macs = 0

    def count(module: nn.Conv2d, given: tuple[torch.Tensor], result: torch.Tensor) -> None:
        nonlocal macs
        macs += result[0].numel() * module.weight[0].numel()

    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    with torch.inference_mode():
        encoder(torch.zeros(1, 3, 64, 96))
    assert multiply_accumulates(SMALL, (64, 96))["encoder"] == macs


@pytest.mark.parametrize("side", [512, 8192])
def test_counting_computes_nothing(side: int) -> None:
    """The largest takes gigabytes when it is run."""
    assert multiply_accumulates(SMALL, (side, side))["total"] > 0
