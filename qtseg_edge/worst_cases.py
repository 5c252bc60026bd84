"""The images a model does worst on, as one picture: label and prediction as outlines."""

from __future__ import annotations

from qtseg_edge.contact_sheet import LABEL, PREDICTION, Tile, contact_sheet
from qtseg_edge.data import read_labelled_image, read_mask
from qtseg_edge.evaluate import Case, Evaluation


def worst_picture(evaluation: Evaluation) -> bytes:
    """PNG of the worst cases, lowest Dice first, row by row. The images and labels are read again."""
    names = evaluation.spec.card.classes
    title = f"{len(evaluation.worst)} lowest Dice (x 100) of {len(evaluation.images)} images, original size"
    return contact_sheet([_tile(case, names) for case in evaluation.worst], (LABEL, PREDICTION), title)


def _tile(case: Case, names: tuple[str, ...]) -> Tile:
    labelled = read_mask(case.pair.mask, len(names)) == case.class_index
    outlines = ((labelled, LABEL), (case.predicted == case.class_index, PREDICTION))
    captions = (case.pair.image.name, f"{names[case.class_index]}: Dice {100 * case.scores.dice:.1f}")
    return Tile(read_labelled_image(case.pair.image), outlines, captions)
