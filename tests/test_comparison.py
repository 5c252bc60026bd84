from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.bootstrap import Estimate
from qtseg_edge.comparison import common_sizes, difference, require_same_classes
from qtseg_edge.errors import UsageError
from qtseg_edge.evaluate import Evaluation, evaluate
from qtseg_edge.metrics import METRICS
from tests.labelled import FOUR, Answers, Levels, box, fake, marked_split

METRIC = {metric.name: metric for metric in METRICS}
NOTHING, SQUARE, SHIFTED = box(0, 0, 0, 0), box(10, 10, 30, 30), box(10, 20, 30, 40)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """What the fake backend sees and what is labelled."""
    return marked_split(tmp_path / "split", {"a": (SQUARE, SQUARE), "b": (SQUARE, SQUARE), "c": (NOTHING, SQUARE), "d": (SQUARE, SHIFTED)})


@pytest.fixture
def both(split: Path) -> tuple[Evaluation, Evaluation]:
    """Dice 1, 1, 0, 0.5 and, always marking the same, 0.5, 0.5, 0.5, 1."""
    return evaluate(fake(), split), evaluate(Answers(SHIFTED), split)


@pytest.mark.parametrize("size", ["network", "original"])
def test_the_difference_is_model_minus_other_image_by_image(both: tuple[Evaluation, Evaluation], size: str) -> None:
    found = difference(*both, size, 0, METRIC["dice"])  # type: ignore[arg-type]
    assert found.estimate.mean == pytest.approx((0.5 + 0.5 - 0.5 - 0.5) / 4)
    assert (found.estimate.low, found.estimate.high) == (pytest.approx(-0.5), pytest.approx(0.5))
    assert (found.estimate.n, found.better, found.worse, found.equal) == (4, 2, 2, 0)


def test_the_other_way_round_the_signs_turn(both: tuple[Evaluation, Evaluation]) -> None:
    one, other = evaluate_pair_difference(both), evaluate_pair_difference((both[1], both[0]))
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


def evaluate_pair_difference(both: tuple[Evaluation, Evaluation]) -> Estimate:
    return difference(*both, "network", 0, METRIC["iou"]).estimate


def test_less_error_is_better(both: tuple[Evaluation, Evaluation]) -> None:
    """MAE of the model: 0, 0, 400 and 400 pixels; of the other: 400, 400, 400, 0."""
    found = difference(*both, "network", 0, METRIC["mae"])
    assert found.estimate.mean == pytest.approx((-400 - 400 + 0 + 400) / 6144 / 4)
    assert (found.better, found.worse, found.equal) == (2, 1, 1)


def test_images_without_a_distance_in_either_are_left_out(both: tuple[Evaluation, Evaluation]) -> None:
    found = difference(*both, "network", 0, METRIC["hd95"])
    assert found.estimate.mean == pytest.approx((-10 - 10 + 10) / 3)
    assert (found.estimate.n, found.better, found.worse, found.equal) == (3, 2, 1, 0)


def test_a_model_is_equal_to_itself(split: Path) -> None:
    found = difference(evaluate(fake(), split), evaluate(fake(), split), "original", 0, METRIC["dice"])
    assert found.estimate == Estimate(0, 0, 0, 4)
    assert (found.better, found.worse, found.equal) == (0, 0, 4)


def test_network_size_is_compared_only_where_it_is_the_same(split: Path) -> None:
    small, large = evaluate(fake(), split), evaluate(fake((128, 192)), split)
    assert common_sizes(small, small) == ("network", "original")
    assert common_sizes(small, large) == ("original",)


def test_models_of_other_classes_are_refused() -> None:
    two, four = fake().spec, Levels().spec
    require_same_classes(two, two)
    with pytest.raises(UsageError, match=r"--compare: wanted a model with the classes background, bright red; four has background, polyp"):
        require_same_classes(two, four)
    with pytest.raises(UsageError, match="--compare"):
        require_same_classes(four, Levels(replace(FOUR, classes=("background", "tool", "polyp", "water"))).spec)


def test_evaluations_of_other_images_are_refused(both: tuple[Evaluation, Evaluation]) -> None:
    with pytest.raises(ValueError, match="of the same images"):
        difference(both[0], replace(both[1], images=both[1].images[1:]), "network", 0, METRIC["dice"])
