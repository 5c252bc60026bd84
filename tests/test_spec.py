from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.spec import NORMALISATIONS, NOTICE, ModelCard, ModelSpec

side = st.integers(1, 64).map(lambda k: 32 * k)
level = st.integers(0, 255)
score = st.floats(0, 1)


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    count = draw(st.integers(2, 6))
    return ModelCard(
        name=draw(st.text(max_size=20)),
        classes=tuple(draw(st.lists(st.text(max_size=8), min_size=count, max_size=count))),
        colours_rgb=tuple(draw(st.lists(st.tuples(level, level, level), min_size=count, max_size=count))),
        size_hw=(draw(side), draw(side)),
        normalisation=draw(st.sampled_from(NORMALISATIONS)),
        threshold=draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        data=draw(st.text(max_size=20)),
        scores=draw(st.dictionaries(st.text(max_size=8), score, max_size=3)),
        limits=draw(st.text(max_size=20)),
    )


specs = st.builds(ModelSpec, cards(), st.tuples(side, side), st.none() | st.integers(1, 16), st.text(max_size=64))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def fields(card: ModelCard, **changed: Any) -> str:
    return json.dumps(asdict(card) | changed)


@given(cards())
def test_a_card_comes_back_from_json(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


@given(specs)
def test_a_spec_comes_back_from_json(spec: ModelSpec) -> None:
    loaded = ModelSpec.from_json(spec.to_json())
    assert loaded == spec
    assert loaded.classes == len(spec.card.classes)


def test_json_is_plain_and_the_same_every_time(card: ModelCard) -> None:
    spec = ModelSpec(card, (64, 96), None, "ab" * 32)
    assert spec.to_json() == spec.to_json()
    read = json.loads(spec.to_json())
    assert (read["version"], read["size_hw"], read["batch"]) == (1, [64, 96], None)
    assert read["card"]["classes"] == ["background", "polyp"]


def test_a_card_says_it_is_no_medical_device(card: ModelCard) -> None:
    assert card.notice == NOTICE
    assert "Not a medical device" in json.loads(card.to_json())["notice"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["one"], "colours_rgb": [[0, 0, 0]]}, "two or more classes, got 1 names, 1 colours"),
        ({"classes": ["a", "b", "c"]}, "got 3 names, 2 colours"),
        ({"normalisation": "imagenet"}, "must be one of minmax, scale, got 'imagenet'"),
        ({"threshold": 0.0}, "threshold must lie between 0 and 1, got 0.0"),
        ({"threshold": 1.0}, "threshold must lie between 0 and 1, got 1.0"),
        ({"threshold": float("nan")}, "threshold must lie between 0 and 1, got nan"),
        ({"size_hw": [352, 350]}, r"two multiples of 32, got \(352, 350\)"),
        ({"size_hw": [0, 32]}, r"two multiples of 32, got \(0, 32\)"),
        ({"size_hw": [-32, 32]}, r"two multiples of 32, got \(-32, 32\)"),
        ({"size_hw": [32]}, r"two multiples of 32, got \(32,\)"),
        ({"size_hw": [32, 32, 32]}, "two multiples of 32"),
    ],
)
def test_values_that_cannot_work_are_refused(card: ModelCard, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError, match=f"model card: .*{message}"):
        ModelCard.from_json(fields(card, **changed))


@pytest.mark.parametrize("changed", [{"threshold": 2.0}, {"classes": ("a",)}, {"size_hw": (1, 1)}], ids=str)
def test_values_that_cannot_work_are_refused_in_code_too(card: ModelCard, changed: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match="model card: "):
        replace(card, **changed)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"x"', "{}", "\x00"], ids=repr)
def test_text_that_is_no_card_and_no_spec_is_refused(text: str) -> None:
    with pytest.raises(IncompatibleError, match=r"model card: not readable .*; export the model again"):
        ModelCard.from_json(text)
    with pytest.raises(IncompatibleError, match=r"model metadata: not readable .*; export the model again"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("name", ["name", "classes", "colours_rgb", "size_hw", "normalisation"])
def test_a_card_without_a_needed_field_is_refused(card: ModelCard, name: str) -> None:
    known = asdict(card)
    del known[name]
    with pytest.raises(IncompatibleError, match=f"model card: not readable .*{name}"):
        ModelCard.from_json(json.dumps(known))


def test_a_card_with_a_field_of_the_future_is_refused(card: ModelCard) -> None:
    with pytest.raises(IncompatibleError, match="model card: not readable .*'future'"):
        ModelCard.from_json(fields(card, future=1))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_spec_of_another_version_is_refused(card: ModelCard, version: object) -> None:
    text = json.dumps(json.loads(ModelSpec(card, (64, 64)).to_json()) | {"version": version})
    with pytest.raises(IncompatibleError, match=f"version 1 wanted, got {version}: export the model again"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("name", ["version", "card", "size_hw", "batch", "checkpoint_sha256"])
def test_a_spec_without_a_field_is_refused(card: ModelCard, name: str) -> None:
    known = json.loads(ModelSpec(card, (64, 64)).to_json())
    del known[name]
    with pytest.raises(IncompatibleError, match=f"model metadata: not readable .*{name}"):
        ModelSpec.from_json(json.dumps(known))


@given(name=st.sampled_from(["classes", "colours_rgb", "size_hw", "normalisation", "threshold"]), value=anything)
def test_a_card_field_of_any_kind_gives_a_card_or_our_error(name: str, value: object) -> None:
    card = ModelCard("x", ("a", "b"), ((0, 0, 0), (1, 1, 1)), (32, 32), "scale")
    try:
        ModelCard.from_json(fields(card, **{name: value}))
    except IncompatibleError as error:
        assert str(error).startswith("model card: ")


@pytest.mark.parametrize(
    "changed", [{"size_hw": [float("inf"), 32]}, {"colours_rgb": [[0, 0, float("inf")], [1, 1, 1]]}, {"threshold": float("inf")}], ids=str
)
def test_infinite_numbers_are_refused(card: ModelCard, changed: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match="model card: "):
        ModelCard.from_json(fields(card, **changed))


@pytest.mark.parametrize("colour", [[0, 0, 256], [-1, 0, 0]], ids=str)
def test_colours_beyond_a_byte_are_refused(card: ModelCard, colour: list[int]) -> None:
    with pytest.raises(IncompatibleError, match="colour"):
        ModelCard.from_json(fields(card, colours_rgb=[[0, 0, 0], colour]))


@pytest.mark.parametrize("changed", [{"size_hw": [64, 50]}, {"size_hw": [0, 64]}, {"batch": 0}, {"batch": -1}], ids=str)
def test_a_spec_no_model_can_have_is_refused(card: ModelCard, changed: dict[str, Any]) -> None:
    text = json.dumps(json.loads(ModelSpec(card, (64, 64)).to_json()) | changed)
    with pytest.raises(IncompatibleError, match="model metadata"):
        ModelSpec.from_json(text)


@given(name=st.sampled_from(["version", "card", "size_hw", "batch", "checkpoint_sha256"]), value=anything)
def test_a_spec_field_of_any_kind_gives_a_spec_or_our_error(name: str, value: object) -> None:
    card = ModelCard("x", ("a", "b"), ((0, 0, 0), (1, 1, 1)), (32, 32), "scale")
    text = json.dumps(json.loads(ModelSpec(card, (64, 64)).to_json()) | {name: value})
    try:
        ModelSpec.from_json(text)
    except IncompatibleError as error:
        assert str(error).startswith("model ")
