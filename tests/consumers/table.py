"""The table of formats in docs/reference/formats.md: what each can express, and what was run and compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secateur.plans.features import ALL
from secateur.plans.formats.form import Format
from secateur.plans.formats.table import FORMATS

BEGIN, END = "<!-- formats: written by make test-consumers -->", "<!-- /formats -->"
WORDS = {
    "layers": "layers dropped",
    "sublayers": "sublayers dropped",
    "groups": "KV groups",
    "queries": "query heads",
    "channels": "MLP channels",
    "hidden": "residual width",
    "shares": "shares of zeros",
    "patterns": "N:M",
    "bits": "llama.cpp's types",
    "grid": "grids of integers",
    "both": "zeros and a grid in one linear",
}
ROUND_TRIP = "format checked by reading it back, tool not run"
OURS = ("plan", "json", "yaml", "csv")


@dataclass(frozen=True)
class Proof:
    """What a test has shown of a format."""

    format: str
    consumer: str
    compared: str
    result: str


def expressed(form: Format) -> str:
    if form.carries == ALL:
        return "everything"
    missing = [WORDS[feature] for feature in WORDS if feature in ALL and feature not in form.carries]
    if len(missing) == 1:
        return f"all but {missing[0]}"
    return ", ".join(WORDS[feature] for feature in WORDS if feature in form.carries)


def table(proofs: Sequence[Proof]) -> str:
    lines = ["| `--to` | can express | consumer that ran | compared | result |", "|---|---|---|---|---|"]
    for name, form in FORMATS.items():
        own = [proof for proof in proofs if proof.format == name]
        rows = [(proof.consumer, proof.compared, proof.result) for proof in own]
        if not rows:
            rows = [
                ("-", "this package reads it back", "same plan") if name in OURS else ("-", ROUND_TRIP, "same plan")
            ]
        for row in rows:
            lines.append(f"| `{name}` | {expressed(form)} | {' | '.join(row)} |")
    return "\n".join(lines)


def write_table(path: Path, proofs: Sequence[Proof]) -> None:
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table(proofs)}\n{END}{after}")
