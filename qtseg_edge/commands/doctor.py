"""`qtseg-edge doctor`."""

from __future__ import annotations

from qtseg_edge.commands.options import Json
from qtseg_edge.console import print_json


def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, and what to type to get more."""
    from qtseg_edge.doctor import diagnose, diagnosis_document, diagnosis_text

    diagnosis = diagnose()
    if as_json:
        print_json(diagnosis_document(diagnosis))
    else:
        print(diagnosis_text(diagnosis))
    diagnosis.require()
