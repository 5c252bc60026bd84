from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qtseg_edge.training.augmentation import Augmentation
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.images import Images
from qtseg_edge.training.loop import Request, preview
from qtseg_edge.training.pictures import write_preview, write_validation
from tests.training.discs import DISC, contents


class Everywhere(nn.Module):
    """Stands in for a network that sees one class in every pixel."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.eye(2)[index])

    def forward(self, image: Tensor) -> Tensor:
        return self.logits[None, :, None, None].expand(len(image), 2, *image.shape[2:])


@pytest.fixture
def images(data: Path) -> Images:
    return Images.read(data / "train", 64, 2)


def drawn(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_validation_shows_images_and_what_the_network_makes_of_them(images: Images, tmp_path: Path) -> None:
    pictures = []
    for index in (0, 1):
        write_validation(tmp_path / "val.png", Everywhere(index), images, DISC, 3)  # type: ignore[arg-type]
        pictures.append(drawn(tmp_path / "val.png"))
    assert pictures[0].shape == pictures[1].shape
    assert not np.array_equal(*pictures), "another prediction is another picture"
    green = (np.abs(pictures[0].astype(int) - (60, 80, 60)).max(axis=2) < 6).sum()
    assert green > 4 * 64 * 64 / 3, "the background of the discs is in it"


def test_a_preview_is_the_same_for_the_same_seed(images: Images, tmp_path: Path) -> None:
    pictures = []
    for seed in (1, 1, 2):
        write_preview(tmp_path / "preview.png", images, Augmentation(1.0, 0.25, 0.0), DISC, seed)
        pictures.append((tmp_path / "preview.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_preview_writes_one_picture_and_starts_no_run(data: Path, tmp_path: Path) -> None:
    config = TrainConfig(imgsz=64)
    path = preview(Request(data, tmp_path / "run", DISC), config)
    assert path == tmp_path / "run" / "preview.png"
    assert list(contents(tmp_path / "run")) == ["preview.png"]
    assert drawn(path).std() > 10
