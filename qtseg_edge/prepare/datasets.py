"""The data sets that `prepare` knows: where they are published, on which terms, how they lie on disk, how folds are cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qtseg_edge.prepare.labels import RED_AND_GREEN, Labels, binary_labels, colour_labels
from qtseg_edge.prepare.layouts import Layout, Sample
from qtseg_edge.prepare.pictures import LOSSY, mask_pixels, read_bytes

# First frames of CVC-ClinicDB's 29 video sequences, as published on polyp.grand-challenge.org/CVCClinicDB.
_SEQUENCE_STARTS = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)  # fmt: skip
_POLYP = ("background", "polyp")
_VESSEL = ("background", "vessel")
_BY_NAME = "images by file name"


def _binary(mask: Path) -> Labels:
    return binary_labels(mask_pixels(mask, read_bytes(mask)), mask.suffix.lower() in LOSSY)


def _red_and_green(mask: Path) -> Labels:
    return colour_labels(np.atleast_3d(mask_pixels(mask, read_bytes(mask))), RED_AND_GREEN)


def _file_name(sample: Sample) -> str:
    return sample.image.name


def _sequence(sample: Sample) -> str:
    """Neighbouring frames look alike: were they cut apart, validation would see what was trained on."""
    return f"sequence {bisect_right(_SEQUENCE_STARTS, int(sample.image.stem)):02}"


@dataclass(frozen=True)
class Dataset:
    """published: images it is known to have, by part or group ("" for all). classes: names by their number.

    read_label: what a mask file says. unit_of: what a fold must not tear apart. cut: that in words.
    always_foreground: whether every image shows something.
    """

    title: str
    source: str
    citation: str
    terms: str
    layouts: tuple[Layout, ...]
    published: dict[str, int]
    classes: dict[int, tuple[str, ...]]
    read_label: Callable[[Path], Labels] = _binary
    unit_of: Callable[[Sample], str] = _file_name
    cut: str = _BY_NAME
    always_foreground: bool = True


def _folders(image: str, mask: str, parts: str = "", suffix: str = r"\.(?:png|jpe?g)") -> tuple[str, str]:
    """Patterns for images and masks of the same name in two folders. parts: folders around both, `train|test`."""
    outer = rf"(?P<part>{parts})/" if parts else ""
    return rf"{outer}{image}/(?P<key>[^/]+){suffix}", rf"{outer}{mask}/(?P<key>[^/]+){suffix}"


_CVC_SUFFIX = r"(?<=\d)\.(?:png|tiff?)"

DATASETS = {
    "isic2016": Dataset(
        title="ISIC 2016, task 1: skin lesions",
        source="https://challenge.isic-archive.com/data/#2016",
        citation="Gutman et al., Skin lesion analysis toward melanoma detection, arXiv:1605.01397, 2016",
        terms="CC0",
        layouts=(
            Layout(
                "{train,test}/{inputs/NAME.jpg,targets/NAME.png}",
                r"(?P<part>train|test)/inputs/(?P<key>[^/]+)\.jpe?g",
                r"(?P<part>train|test)/targets/(?P<key>[^/]+?)(?:_segmentation)?\.png",
            ),
            Layout(
                "ISBI2016_ISIC_Part1_{Training,Test}_{Data/NAME.jpg,GroundTruth/NAME_Segmentation.png}",
                r"isbi2016_isic_part1_(?P<part>training|test)_data/(?P<key>[^/]+)\.jpe?g",
                r"isbi2016_isic_part1_(?P<part>training|test)_groundtruth/(?P<key>[^/]+)_segmentation\.png",
            ),
        ),
        published={"train": 900, "test": 379},
        classes={2: ("background", "lesion")},
    ),
    "busi": Dataset(
        title="BUSI: breast ultrasound, benign and malignant lesions",
        source="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28:104863, 2020",
        terms="no licence in the download; the article that publishes it is CC BY 4.0",
        layouts=(
            Layout(
                "{benign,malignant}/{NAME.png,NAME_mask.png,NAME_mask_1.png ...}",
                r"(?P<group>benign|malignant)/(?P<key>(?:(?!_mask)[^/])+)\.png",
                r"(?P<group>benign|malignant)/(?P<key>(?:(?!_mask)[^/])+)_mask(?:_\d+)?\.png",
            ),
        ),
        published={"benign": 437, "malignant": 210},
        classes={2: ("background", "lesion")},
        cut="images by file name, benign and malignant each for itself (normal ones are left out)",
    ),
    "bkai-igh": Dataset(
        title="BKAI-IGH NeoPolyp-Small: neoplastic and non-neoplastic polyps",
        source="https://www.kaggle.com/c/bkai-igh-neopolyp",
        citation="Lan et al., NeoUNet: towards accurate colon polyp segmentation and neoplasm detection, arXiv:2107.05023, 2021",
        terms="the rules of the Kaggle competition",
        layouts=(
            Layout(
                "train/train/NAME.jpeg + train_gt/train_gt/NAME.jpeg, or train/NAME.jpeg + train_gt/NAME.jpeg",
                *_folders("train(?:/train)?", "train_gt(?:/train_gt)?"),
            ),
        ),
        published={"": 1000},
        classes={2: _POLYP, 3: ("background", "neoplastic", "non-neoplastic")},
        read_label=_red_and_green,
        always_foreground=False,
    ),
    "dsb2018": Dataset(
        title="Data Science Bowl 2018, stage 1: cell nuclei (BBBC038)",
        source="https://bbbc.broadinstitute.org/BBBC038",
        citation="Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods 16, 2019",
        terms="CC0",
        layouts=(
            Layout(
                "stage1_train/ID/{images,masks}/NAME.png",
                r"(?:stage1_train/)?(?P<key>[0-9a-f]{64})/images/[^/]+\.png",
                r"(?:stage1_train/)?(?P<key>[0-9a-f]{64})/masks/[^/]+\.png",
            ),
            Layout("{images,masks}/NAME.png, masks merged", *_folders("images", "masks")),
        ),
        published={"": 670},
        classes={2: ("background", "nucleus")},
    ),
    "fives": Dataset(
        title="FIVES: fundus vessels",
        source="https://doi.org/10.6084/m9.figshare.19688169",
        citation="Jin et al., FIVES: a fundus image dataset for AI based vessel segmentation, Scientific Data 9:475, 2022",
        terms="CC BY 4.0",
        layouts=(
            Layout(
                "{train,test}/{Original,Ground truth}/NAME.png",
                r"(?P<part>train|test)/original/(?P<key>[^/]+?(?:_(?P<group>[ADGN]))?)\.png",
                r"(?P<part>train|test)/ground.truth/(?P<key>[^/]+?(?:_(?P<group>[ADGN]))?)\.png",
            ),
        ),
        published={"train": 600, "test": 200},
        classes={2: _VESSEL},
        cut="images by file name, each diagnosis (the letter that ends the name) for itself",
    ),
    "kvasir-seg": Dataset(
        title="Kvasir-SEG: polyps",
        source="https://datasets.simula.no/kvasir-seg/",
        citation="Jha et al., Kvasir-SEG: a segmented polyp dataset, MultiMedia Modeling 2020, 451-462",
        terms="research and education; the same images are part of HyperKvasir (Borgli et al. 2020), CC BY 4.0",
        layouts=(
            Layout("{images,masks}/NAME.jpg, with train.txt and val.txt or without", *_folders("images", "masks")),
            Layout("{train,val}/{images,masks}/NAME.jpg", *_folders("images", "masks", "train|val")),
        ),
        published={"": 1000},
        classes={2: _POLYP},
    ),
    "cvc-clinicdb": Dataset(
        title="CVC-ClinicDB: polyps in 29 video sequences",
        source="https://polyp.grand-challenge.org/CVCClinicDB/",
        citation="Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, "
        "Computerized Medical Imaging and Graphics 43:99-111, 2015",
        terms="research and education only; images: Hospital Clinic Barcelona, ground truth: Computer Vision Center Barcelona",
        layouts=(
            Layout("PNG/{Original,Ground Truth}/N.png", *_folders("png/original", "png/ground.truth", suffix=_CVC_SUFFIX)),
            Layout("TIF/{Original,Ground Truth}/N.tif", *_folders("tif/original", "tif/ground.truth", suffix=_CVC_SUFFIX)),
            Layout("{Original,Ground Truth}/N.tif or N.png", *_folders("original", "ground.truth", suffix=_CVC_SUFFIX)),
        ),
        published={"": 612},
        classes={2: _POLYP},
        unit_of=_sequence,
        cut="whole video sequences by number (29 as published)",
    ),
    "drive": Dataset(
        title="DRIVE: fundus vessels",
        source="https://drive.grand-challenge.org/",
        citation="Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE Trans. Med. Imaging 23:501-509, 2004",
        terms="research and education, no redistribution (isi.uu.nl/Research/Databases/DRIVE); CC BY 4.0 according to a second source",
        layouts=(
            Layout(
                "{training/{images/NN_training.tif,1st_manual/NN_manual1.gif},test/{images/NN_test.tif,1st_manual/NN_manual1.gif}}",
                r"(?P<part>training|test)/images/(?P<key>\d+)_(?:training|test)\.(?:tiff?|png)",
                r"(?P<part>training|test)/1st_manual/(?P<key>\d+)_manual1\.(?:gif|png)",
            ),
            Layout(
                "{images,masks}/{NN_training.png,NN_test.png}",
                r"images/(?P<key>\d+_(?P<part>training|test))\.(?:tiff?|png)",
                r"masks/(?P<key>\d+_(?P<part>training|test))\.(?:gif|png)",
            ),
        ),
        published={"train": 20, "test": 20},
        classes={2: _VESSEL},
    ),
}
