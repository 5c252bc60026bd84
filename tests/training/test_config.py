from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import UsageError
from qtseg_edge.training.config import TrainConfig, config_from, config_text
from tests.training.discs import Run


def written(folder: Path, text: str) -> Path:
    (folder / "c.json").write_text(text, encoding="utf-8")
    return folder / "c.json"


# --- a file and options -------------------------------------------------------------------------------------------------------------


def test_without_a_file_and_options_everything_is_the_default() -> None:
    assert config_from(None, {}) == TrainConfig()


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path, '{"epochs": 7, "class_weights": [1, 2.5], "start_imgsz": 64, "augment": 0}')
    assert config_from(path, {}) == TrainConfig(epochs=7, class_weights=(1.0, 2.5), start_imgsz=64, augment=0.0)


def test_options_override_the_file_and_those_not_given_leave_it_alone(tmp_path: Path) -> None:
    path = written(tmp_path, '{"epochs": 7, "seed": 5, "lr": 0.5}')
    assert config_from(path, {"epochs": 9, "seed": 0, "lr": None, "batch": None}) == TrainConfig(epochs=9, seed=0, lr=0.5)


def test_what_a_run_saved_gives_the_same_run_again(finished: Run, tmp_path: Path) -> None:
    assert json.loads((finished.folder / "config.json").read_text(encoding="utf-8"))["epochs"] == 3
    odd = TrainConfig(class_weights=(0.3, 1.7), start_imgsz=96, lr=1 / 3, allow_empty=True, encoder_weights="ảnh.pt")
    assert config_from(written(tmp_path, config_text(odd)), {}) == odd


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]


# --- what is refused ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_all_that_are_known(tmp_path: Path) -> None:
    path = written(tmp_path, '{"learning_rate": 0.1}')
    known = ", ".join(field.name for field in fields(TrainConfig))
    with pytest.raises(UsageError) as caught:
        config_from(path, {})
    assert str(caught.value) == f"{path}: learning_rate is not a key; known are {known}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "3"), ("epochs", 3.0), ("epochs", True), ("epochs", None), ("epochs", [3]), ("lr", "0.1"), ("lr", None),
        ("allow_empty", 1), ("allow_empty", "yes"), ("encoder", 3), ("class_weights", 2.0), ("class_weights", ["2"]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_and_never_converted(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"c\.json: {key}(\.0)?: input should be a valid \w+"):
        config_from(written(tmp_path, json.dumps({key: value})), {})


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("imgsz", 100, "multiple of 32"), ("imgsz", 0, "greater than 0"), ("start_imgsz", 33, "multiple of 32"),
        ("width", 6, "multiple of 4"), ("width", 0, "greater than or equal to 4"), ("width", 1 << 15, "equal to 16384"),
        ("growth", 1.1, "less than or equal to 1"), ("augment", -0.1, "greater than or equal to 0"), ("augment", 2.5, "equal to 2"),
        ("endoscope", 2, "less than or equal to 1"), ("empty_share", -1, "greater than or equal to 0"), ("freeze_epochs", -1, "equal to 0"),
        ("epochs", 0, "greater than or equal to 1"), ("batch", 1, "greater than or equal to 2"), ("accumulate", 0, "equal to 1"),
        ("lr", 0, "greater than 0"), ("lr", -1.0, "greater than 0"), ("weight_decay", -0.1, "equal to 0"), ("warmup", 1.5, "equal to 1"),
        ("clip", 0, "greater than 0"), ("ema", 1, "less than 1"), ("ema", -0.1, "equal to 0"), ("val_every", 0, "equal to 1"),
        ("patience", -1, "equal to 0"), ("seed", -1, "equal to 0"), ("seed", 1 << 31, "less than 2147483648"),
        ("class_weights", [1, 0], "greater than 0"), ("precision", "fp8", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("normalisation", "zscore", "'minmax' or 'scale'"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_told_with_the_range_and_what_came(tmp_path: Path, key: str, value: object, wanted: str) -> None:
    with pytest.raises(UsageError, match=rf"c\.json: {key}(\.1)?: input should be .*({wanted}), got "):
        config_from(written(tmp_path, json.dumps({key: value})), {})


NUMBERS = [field.name for field in fields(TrainConfig) if field.type == "float" or isinstance(field.default, float)]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=repr)
def test_no_number_may_be_infinite_or_none_at_all(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{key}: input should be"):
        config_from(written(tmp_path, json.dumps({key: value})), {})
    with pytest.raises(UsageError, match=f"{key}: input should be"):
        config_from(None, {key: value})


def test_the_numbers_that_are_tried_are_all_there_are() -> None:
    assert NUMBERS == ["growth", "augment", "endoscope", "empty_share", "lr", "weight_decay", "warmup", "clip", "ema"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, '{"epohcs": 3, "lr": -1, "imgsz": 100, "ema": "high"}')
    with pytest.raises(UsageError) as caught:
        config_from(path, {"batch": 1})
    message = str(caught.value)
    for part in ("epohcs is not a key", "lr: input should be greater than 0, got -1", "imgsz: ", "got 100", "ema: ", "batch: "):
        assert part in message
    assert "\n" not in message


def test_a_wrong_option_beside_a_file_blames_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"c\.json and the options: epochs: input should be"):
        config_from(written(tmp_path, "{}"), {"epochs": 0})


def test_a_wrong_option_is_told_without_a_file_to_blame() -> None:
    with pytest.raises(UsageError, match=r"^train: epochs: input should be greater than or equal to 1, got 0$"):
        config_from(None, {"epochs": 0})


@pytest.mark.parametrize("text", ["", "epochs: 3", '{"epochs": 3', "{'epochs': 3}", "\ufeff{}"], ids=repr)
def test_a_file_that_is_not_json_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"c\.json: wanted JSON, as in the config\.json of a run \("):
        config_from(written(tmp_path, text), {})


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"epochs": 1' + "0" * 5000 + "}"], ids=["nested too deep", "more digits than Python reads"]
)
def test_json_that_python_cannot_hold_is_told_as_well(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"c\.json: wanted JSON"):
        config_from(written(tmp_path, text), {})


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ('"lr"', "str"), ("3", "int"), ("null", "NoneType")])
def test_json_that_is_no_object_is_told_with_what_it_is(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"c\.json: wanted a JSON object, as in the config\.json of a run, got {kind}$"):
        config_from(written(tmp_path, text), {})


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: cannot be read \(No such file or directory\)"):
        config_from(tmp_path / "none.json", {})
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        config_from(tmp_path, {})
    (tmp_path / "latin.json").write_bytes('{"encoder": "é"}'.encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.json: cannot be read \(not UTF-8\)"):
        config_from(tmp_path / "latin.json", {})


# --- the side of the images ---------------------------------------------------------------------------------------------------------

sides = st.integers(1, 20).map(lambda steps: 32 * steps)


@given(sides, sides, st.integers(1, 60), st.floats(0, 1))
def test_the_side_grows_in_multiples_of_32_and_ends_at_that_of_the_model(first: int, last: int, epochs: int, growth: float) -> None:
    config = TrainConfig(imgsz=last, start_imgsz=first, epochs=epochs, growth=growth)
    seen = [config.side(epoch) for epoch in range(epochs)]
    assert all(side % 32 == 0 for side in seen)
    assert seen == sorted(seen)
    assert seen[0] == (min(first, last) if growth > 0 and epochs > 1 else last)
    assert seen[-1] == last
    assert all(side == last for epoch, side in enumerate(seen) if epoch >= growth * epochs)


def test_the_side_rises_evenly() -> None:
    config = TrainConfig(imgsz=160, start_imgsz=64, epochs=8, growth=0.75)
    assert [config.side(epoch) for epoch in range(8)] == [64, 64, 96, 96, 128, 128, 160, 160]


def test_without_a_first_side_it_never_changes() -> None:
    config = TrainConfig(imgsz=160, epochs=8)
    assert {config.side(epoch) for epoch in range(8)} == {160}
    assert {replace(config, start_imgsz=352).side(epoch) for epoch in range(8)} == {160}


def test_what_is_saved_is_every_key_that_is_accepted() -> None:
    saved: dict[str, Any] = json.loads(config_text(TrainConfig()))
    assert list(saved) == [field.name for field in fields(TrainConfig)]
