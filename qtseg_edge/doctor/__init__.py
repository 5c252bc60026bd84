"""What this machine can do, and what to type to get more. Imports nothing heavy; what is installed is asked in child processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtseg_edge.doctor.asking import ask_all
from qtseg_edge.doctor.choice import Choice, auto_choices, can_run
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.doctor.installation import installation_findings
from qtseg_edge.doctor.interpreter import this_interpreter
from qtseg_edge.doctor.machine import machine_findings
from qtseg_edge.doctor.software import software_findings
from qtseg_edge.errors import MissingError
from qtseg_edge.jetson import l4t_release

_MARKS = {"ok": "ok", "missing": "missing", "broken": "BROKEN", "none": "-"}


@dataclass(frozen=True)
class Diagnosis:
    """auto: what `--device auto` takes for each kind of model. runs: at least one kind can be run on some device."""

    findings: list[Finding]
    auto: list[Choice]
    runs: bool

    def require(self) -> None:
        """Raises MissingError where no model of any kind can be run."""
        if not self.runs:
            raise MissingError("nothing on this machine can run a model; get an engine with: pip install 'qtseg-edge[cpu]'")


def diagnose(root: Path = Path("/")) -> Diagnosis:
    """Some seconds: every package is loaded once, in a process of its own. root: where the file system begins."""
    answers = ask_all()
    installation = installation_findings(answers, this_interpreter(root))
    findings = [*machine_findings(root), *installation, *software_findings(answers, is_jetson=bool(l4t_release(root)))]
    return Diagnosis(findings, auto_choices(answers), can_run(answers))


def diagnosis_document(diagnosis: Diagnosis) -> dict[str, Any]:
    return asdict(diagnosis)


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """A line for each finding, and one below it for what to type. No table: its columns would be cut on a terminal."""
    lines = []
    for finding in diagnosis.findings:
        lines.append(_line(finding.what, _MARKS[finding.state], finding.found))
        if finding.cure:
            lines.append(_line("", "", f"-> {finding.cure}"))
    lines += ["", "What --device auto takes:"]
    for choice in diagnosis.auto:
        device = f"{choice.device}: " if choice.device else ""
        lines.append(_line(choice.model, "ok" if choice.works else "missing", f"{device}{choice.why}"))
    return "\n".join(lines)


def _line(what: str, mark: str, text: str) -> str:
    return f"{what:<18}{mark:<9}{text}"
