"""The front of SmolLM2 on this machine: does every member load, how far is the table off, does it beat uniform width?

Carries out the recipe demo-front on the texts of docs/results.md (about half an hour), exports every member of the
front, loads it with transformers and compares its cross-entropy on a held-out sequence with the one in the journal. The
run is kept in runs-local/benchmark-front: a second call only reports, and one that was interrupted goes on.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM

import secateur
from benchmarks.setup import as_published, console, smollm2, table_of
from secateur.fitness.scores.cross_entropy import cross_entropy
from secateur.runs.asked.reading import read_recipe
from secateur.runs.problem import space_of
from secateur.runs.record.folder import RunFolder
from secateur.runs.report.tables import print_front

PATH = Path("runs-local/benchmark-front")


def journaled(name: str) -> float:
    """Cross-entropy of a member on the first held-out sequence, as the journal has it."""
    with RunFolder.open(PATH, writing=False) as folder:
        key = space_of(folder).key(folder.journal.choices()[name].genome)
        for text, evaluation in folder.journal.evaluations("sotu"):
            if text == "sotu" and evaluation.key == key and evaluation.sequences.start == 0:
                return evaluation.losses["cross_entropy"][0]
    raise LookupError(name)


@torch.inference_mode()
def loaded_loss(folder: Path, ids: torch.Tensor) -> tuple[int, float]:
    """Parameters of an exported checkpoint, and its cross-entropy on ids (time,)."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    logits = model(input_ids=ids[None]).logits[0, :-1].float()
    return sum(p.numel() for p in model.parameters()), float(cross_entropy(logits, ids[1:]).mean())


def main() -> None:
    values = read_recipe(Path("demo-front")).model_dump(mode="json") | as_published(48)
    run = secateur.resume(PATH) if (PATH / "recipe.yaml").exists() else secateur.run(values, PATH)
    front = run.front
    assert front is not None
    print_front(console, front, [])
    for one in front.against:
        d = one.difference
        console.print(
            f"{one.member} minus {one.reference}: held-out KL {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]",
            highlight=False,
        )
    ids = smollm2(48, 256, held_out=12).texts["sotu"].ids[0]
    table = table_of(
        "Members exported and loaded by transformers",
        ("member", "parameters", "as counted", "cross-entropy loaded", "in the search"),
    )
    for point in front.members:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "smaller"
            run.export("hf", out, pick=point.row.name)
            parameters, loss = loaded_loss(out, ids)
            shutil.rmtree(out)
        counted = point.row.costs["parameters"]
        wanted = journaled(point.row.name)
        table.add_row(point.row.name, f"{parameters:,}", f"{counted:,}", f"{loss:.5f}", f"{wanted:.5f}")
        assert parameters == counted
        assert abs(loss - wanted) < 1e-3
    console.print(table)


if __name__ == "__main__":
    main()
