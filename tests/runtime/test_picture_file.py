from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app

FRAMES = Path(__file__).parents[2] / "qtseg_edge" / "assets" / "frames"


def test_a_single_image_gives_one_overlay_picture(tmp_path: Path) -> None:
    image = sorted(FRAMES.glob("*.jpg"))[0]
    target = tmp_path / "out.png"
    result = CliRunner().invoke(app, ["run", "--source", str(image), "--device", "fake", "-o", str(target)])
    assert result.exit_code == 0, result.output
    overlay, original = cv2.imread(str(target)), cv2.imread(str(image))
    assert overlay.shape == original.shape
    assert 0.05 < np.mean(np.any(overlay != original, axis=2)) <= 1


def test_the_default_output_of_an_image_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = sorted(FRAMES.glob("*.jpg"))[0]
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["run", "--source", str(image), "--device", "fake"]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{image.stem}-overlay.png"]


def test_several_images_do_not_fit_into_one_picture(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--source", str(FRAMES), "--device", "fake", "-o", str(tmp_path / "out.png")])
    assert result.exit_code == 2
    assert "holds one picture" in result.output
    assert list(tmp_path.iterdir()) == []
