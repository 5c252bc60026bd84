from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from qtseg_edge.errors import UsageError
from qtseg_edge.spec import ModelCard, class_colours
from qtseg_edge.training.card import card_for
from qtseg_edge.training.config import TrainConfig
from tests.training.discs import DISC

CONFIG = TrainConfig(imgsz=96, normalisation="minmax")


def manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return folder


def test_without_anything_to_read_the_model_tells_lesion_from_background(tmp_path: Path) -> None:
    card = card_for("polyps", tmp_path, None, None, CONFIG)
    assert card == ModelCard("polyps", ("background", "lesion"), class_colours(2), (96, 96), "minmax")
    assert card.data == card.data_terms == "not stated"


def test_classes_are_named_in_index_order(tmp_path: Path) -> None:
    card = card_for("model", tmp_path, None, " background, polyp ,forceps", CONFIG)
    assert card.classes == ("background", "polyp", "forceps")
    assert card.colours_rgb == class_colours(3)


@pytest.mark.parametrize("classes", ["", "polyp", "background,", ",polyp", "background,,polyp", "polyp,polyp", "a, b ,a", " , "], ids=repr)
def test_classes_that_are_no_two_different_names_are_refused(tmp_path: Path, classes: str) -> None:
    with pytest.raises(UsageError, match=r"--classes: wanted two or more different names, background first.*; got '"):
        card_for("model", tmp_path, None, classes, CONFIG)


def test_a_prepared_data_set_says_its_classes_source_and_terms(tmp_path: Path) -> None:
    facts = {"classes": ["background", "polyp", "tool"], "citation": "Jha et al. 2020", "terms": "research only", "splits": {}}
    card = card_for("model", manifest(tmp_path, json.dumps(facts)), None, None, CONFIG)
    assert (card.classes, card.data, card.data_terms) == (("background", "polyp", "tool"), "Jha et al. 2020", "research only")


def test_classes_given_by_hand_win_over_the_manifest_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    facts = {"classes": ["background", "polyp", "tool"], "citation": "Jha et al. 2020", "terms": "research only"}
    card = card_for("model", manifest(tmp_path, json.dumps(facts)), None, "background,adenoma", CONFIG)
    assert (card.classes, card.data, card.data_terms) == (("background", "adenoma"), "Jha et al. 2020", "research only")


@pytest.mark.parametrize(
    "text",
    ['{"classes": ', "[]", "3", '{"classes": "polyp"}', '{"classes": 2}', '{"classes": ["polyp"]}', '{"classes": ["a", "a"]}'],
    ids=repr,
)
def test_a_manifest_that_is_not_one_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        UsageError, match=r"manifest\.json: wanted (JSON|classes, two or more different names), as written by qtseg-edge prepare"
    ):
        card_for("model", manifest(tmp_path, text), None, None, CONFIG)


def test_a_card_file_is_taken_as_it_is_but_for_the_name(tmp_path: Path) -> None:
    written = replace(DISC, data="our hospital", data_terms="internal", limits="adults only", threshold=0.3)
    (tmp_path / "card.json").write_text(written.to_json(), encoding="utf-8")
    manifest(tmp_path, json.dumps({"classes": ["a", "b", "c"], "citation": "somebody else's", "terms": "others"}))
    assert card_for("run7", tmp_path, tmp_path / "card.json", None, CONFIG) == replace(written, name="run7")


def test_a_card_and_classes_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(DISC.to_json(), encoding="utf-8")
    with pytest.raises(UsageError, match=r"^train: wanted --card or --classes, got both$"):
        card_for("model", tmp_path, tmp_path / "card.json", "background,disc", CONFIG)


def test_a_card_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"card\.json: cannot be read \(No such file or directory\)"):
        card_for("model", tmp_path, tmp_path / "card.json", None, CONFIG)
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(UsageError, match=r"latin\.json: cannot be read \(not UTF-8\)"):
        card_for("model", tmp_path, tmp_path / "latin.json", None, CONFIG)


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({**asdict(DISC), "organ": "colon"})], ids=["empty", "{}", "[]", "unknown key"])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"card\.json: model card: not readable"):
        card_for("model", tmp_path, tmp_path / "card.json", None, CONFIG)
