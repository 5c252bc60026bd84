from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtseg_edge.errors import UsageError
from qtseg_edge.prepare.datasets import DATASETS
from qtseg_edge.prepare.folds import FOLDS, Splits, split_samples, validation_units
from qtseg_edge.prepare.layouts import Found, Sample
from tests.prepare.raw import dsb_id

BASE = Path("raw")


def splits_of(name: str, samples: list[Sample], fold: int = 0) -> Splits:
    dataset = DATASETS[name]
    return split_samples(Found(BASE, dataset.layouts[0], samples), fold, dataset.unit_of, dataset.cut)


def stems(samples: list[Sample]) -> list[str]:
    return [sample.image.stem for sample in samples]


def published(name: str) -> list[Sample]:
    """As many images, named alike, as the data set has."""
    if name == "busi":
        return [
            Sample(BASE / group / f"{group} ({index}).png", (), "", group)
            for group, count in (("benign", 437), ("malignant", 210))
            for index in range(1, count + 1)
        ]
    if name == "fives":
        return [
            Sample(BASE / f"{n}_{letter}.png", (), "train", letter)
            for i, letter in enumerate("ADGN")
            for n in range(150 * i, 150 * i + 150)
        ]
    count = DATASETS[name].published.get("") or DATASETS[name].published["train"]
    return [Sample(BASE / f"{dsb_id(number)}.png", ()) for number in range(count)]


@pytest.mark.parametrize(
    ("name", "train", "val", "never"),
    [
        ("dsb2018", 536, 134, 0),
        ("busi", 518, 129, 2),
        ("bkai-igh", 800, 200, 0),
        ("kvasir-seg", 800, 200, 0),
        ("isic2016", 720, 180, 0),
        ("fives", 480, 120, 0),
    ],
)
def test_published_counts(name: str, train: int, val: int, never: int) -> None:
    samples = published(name)
    validated: list[str] = []
    for fold in range(FOLDS):
        splits = splits_of(name, samples, fold)
        assert (len(splits.samples["train"]), len(splits.samples["val"])) == (train, val)
        assert sorted(stems(splits.samples["train"]) + stems(splits.samples["val"])) == sorted(stems(samples))
        validated += stems(splits.samples["val"])
    assert len(validated) == len(set(validated)) == len(samples) - never


def test_dsb2018_folds_are_the_sorted_names_in_five_runs() -> None:
    samples = published("dsb2018")
    ordered = sorted(stems(samples))
    assert sorted(stems(splits_of("dsb2018", samples, 3).samples["val"])) == ordered[3 * 134 : 4 * 134]


def test_of_busi_the_two_last_benign_names_never_validate() -> None:
    samples = published("busi")
    validated = {stem for fold in range(FOLDS) for stem in stems(splits_of("busi", samples, fold).samples["val"])}
    assert set(stems(samples)) - validated == {"benign (98)", "benign (99)"}
    first = stems(splits_of("busi", samples, 0).samples["val"])
    assert sum("benign" in stem for stem in first) == 87 and sum("malignant" in stem for stem in first) == 42


def test_no_sequence_of_cvc_is_in_both_splits() -> None:
    samples = [Sample(BASE / f"{frame}.tif", ()) for frame in range(1, 613)]
    unit_of = DATASETS["cvc-clinicdb"].unit_of
    assert len({unit_of(sample) for sample in samples}) == 29
    for fold in range(FOLDS):
        splits = splits_of("cvc-clinicdb", samples, fold)
        train, val = ({unit_of(sample) for sample in splits.samples[split]} for split in ("train", "val"))
        assert (len(train), len(val)) == (24, 5) and not train & val
    first = splits_of("cvc-clinicdb", samples, 0).samples["val"]
    assert stems(first) == [str(frame) for frame in range(1, 104)]  # sequences 1 to 5


@pytest.mark.parametrize(("frame", "sequence"), [(1, 1), (25, 1), (26, 2), (205, 10), (206, 11), (591, 28), (592, 29), (612, 29)])
def test_frames_of_cvc_belong_to_the_published_sequences(frame: int, sequence: int) -> None:
    assert DATASETS["cvc-clinicdb"].unit_of(Sample(Path(f"{frame}.tif"), ())) == f"sequence {sequence:02}"


@settings(max_examples=50)
@given(st.sets(st.text(min_size=1, max_size=6), min_size=5, max_size=60))
def test_folds_are_disjoint_of_one_size_and_leave_over_less_than_five(units: set[str]) -> None:
    folds = [validation_units(list(units), fold) for fold in range(FOLDS)]
    validated = [unit for fold in folds for unit in fold]
    assert len(set(validated)) == len(validated) and set(validated) <= units
    assert {len(fold) for fold in folds} == {len(units) // FOLDS}
    assert len(units) - len(validated) < FOLDS
    assert validated == sorted(units)[: len(validated)]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=15, max_size=60), st.integers(0, FOLDS - 1))
def test_every_image_lands_in_exactly_one_split_and_test_stays(kinds: list[str], fold: int) -> None:
    samples = [Sample(BASE / f"{index:03}.png", (), "" if kind else "test", kind) for index, kind in enumerate(kinds)]
    samples += [Sample(BASE / f"c{index}.png", (), "", "c") for index in range(5)]
    splits = splits_of("busi", samples, fold).samples
    assert sorted(stem for split in splits.values() for stem in stems(split)) == sorted(stems(samples))
    assert stems(splits.get("test", [])) == stems([sample for sample in samples if sample.part == "test"])
    for kind in ("a", "b", "c"):
        of_kind = [sample for sample in samples if sample.group == kind]
        assert len([sample for sample in splits["val"] if sample.group == kind]) == len(of_kind) // FOLDS


def test_too_few_images_for_folds_are_refused() -> None:
    with pytest.raises(UsageError, match="wanted 5 or more images to cut 5 folds from, got 4"):
        splits_of("dsb2018", published("dsb2018")[:4])


def test_a_fold_of_what_is_already_split_is_refused() -> None:
    samples = [Sample(BASE / f"{split}.jpg", (), split) for split in ("train", "val")]
    with pytest.raises(UsageError, match=r"--fold: raw brings its own split \(train/ and val/\); leave --fold out"):
        splits_of("kvasir-seg", samples, 1)


def test_lists_that_contradict_are_problems(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("b\n")
    samples = [Sample(tmp_path / f"{stem}.jpg", ()) for stem in "abc"]
    dataset = DATASETS["kvasir-seg"]
    found = Found(tmp_path, dataset.layouts[0], samples)
    splits = split_samples(found, None, dataset.unit_of, dataset.cut)
    assert splits.problems == ["b: in both train.txt and val.txt", "c: in neither train.txt nor val.txt"]
    with pytest.raises(UsageError, match=r"\(train.txt and val.txt\); leave --fold out"):
        split_samples(found, 0, dataset.unit_of, dataset.cut)
