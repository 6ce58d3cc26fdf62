"""Recipes for the oneshot of llm-compressor: shares of zeros by module, and grids of integers.

They say how much, not which weights: the tool chooses those by its own scores on the dense model, and rounds by itself.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from ...space.anatomy import Anatomy
from ...space.both import Both
from ...space.errors import SecateurError
from ...space.grids import Grid
from ...space.treatments import DENSE, Sparsity
from ..changes import Changes, located, share
from ..features import Subject
from .form import ZEROS, Content, Files, Format, of
from .linears import OTHER_ORDER, check_order, linears
from .schemes import MODIFIERS, check_grids, grids, read_groups
from .schemes import stage as quantization


def write(subject: Subject) -> Files:
    """One modifier for each mask structure, with names and shares in module order, in which it reads the list.

    Dense linears are not listed, and so nothing outside the blocks is either: not the head, tied or not.
    """
    modifier = "WandaPruningModifier" if subject.pruner == "wanda" else "SparseGPTModifier"
    groups: dict[str, list[tuple[str, Sparsity]]] = {}
    for name, _, level in linears(subject):
        if level:
            # Its N is the number of zeros in M, ours that of what is kept.
            structure = f"{level.of - level.keep}:{level.of}" if level.of else "0:0"
            groups.setdefault(structure, []).append((name, level))
    # It reads keys that end in "_stage" and "_modifiers" alone.
    stage = {
        f"group{number}_modifiers": {
            modifier: {
                "sparsity": [level.share for _, level in group],
                "mask_structure": structure,
                "targets": [name for name, _ in group],
            }
        }
        for number, (structure, group) in enumerate(sorted(groups.items()))
    }
    stages = {**({"pruning_stage": stage} if stage else {}), **quantization(subject)}
    return {"recipe.yaml": yaml.safe_dump(stages, sort_keys=False)}


def refuses(subject: Subject) -> str | None:
    """Why it cannot do what a plan asks for; None where it can."""
    if (refused := check_grids(subject)) is not None:
        return refused
    stored, zeroed = any(True for _ in grids(subject)), any(level for *_, level in linears(subject))
    transposed = next((name for name, linear, _ in linears(subject) if linear.transposed), None)
    if stored and transposed:
        return f"{transposed} is a Conv1D, and it rounds nn.Linear"
    return check_order(subject) if zeroed or not stored else None


def reads(content: Content) -> bool:
    """Anything with one of its modifiers inside."""
    return bool(_modifiers(content.values) or _modifiers(content.values, QUANTIZERS))


def read(content: Content, anatomy: Anatomy) -> Changes:
    """Shares go to the modules that `targets` match, in module order whatever the order of the targets."""
    every, where = _modifiers(content.values), content.where
    if others := _others(content.values):
        raise SecateurError(f"{where}: what {others[0][:40]} does has no level here")
    changes, stored = Changes(), dict[tuple[int, str], Grid]()
    for settings in _modifiers(content.values, QUANTIZERS):
        stored |= read_groups(settings, anatomy, where)
    for settings in every:
        targets = settings.get("targets", ["Linear"])
        wanted = [targets] if isinstance(targets, str) else list(targets)
        ignored = settings.get("ignore") or []
        ignored = [ignored] if isinstance(ignored, str) else list(ignored)
        matched = list(_matched(wanted, ignored, anatomy, where))
        shares = settings["sparsity"]
        if not isinstance(shares, list):
            shares = [shares] * len(matched)
        if len(shares) != len(matched):
            raise SecateurError(f"{where}: {len(shares)} shares for {len(matched)} modules that 'targets' match")
        if "sparsity_profile" in settings:
            raise SecateurError(f"{where}: 'sparsity_profile' is worked out by the tool; no plan says what it was")
        if isinstance(shares, list) and anatomy.family in OTHER_ORDER:
            raise SecateurError(
                f"{where}: {anatomy.family} registers its linears in another order; name shares one by one"
            )
        removed, _, of = str(settings.get("mask_structure", "0:0")).partition(":")
        for covered, value in zip(matched, shares, strict=True):
            # Its N is the number of zeros in M.
            level = Sparsity.parse(f"{int(of) - int(removed)}:{of}") if int(of) else share(float(value), where)
            if value:
                changes.treated |= dict.fromkeys(covered, level)
    for place, grid in stored.items():
        zeros = changes.treated.get(place, DENSE)
        changes.treated[place] = Both(zeros, grid) if isinstance(zeros, Sparsity) and zeros else grid
    return changes


PRUNERS, QUANTIZERS = ("SparseGPTModifier", "WandaPruningModifier"), tuple(MODIFIERS.values())


def _modifiers(values: Any, wanted: Sequence[str] = PRUNERS) -> list[Mapping[str, Any]]:
    """The settings of every modifier of some names in a recipe of llm-compressor, in order; empty where none is."""
    found: list[Mapping[str, Any]] = []
    if isinstance(values, dict):
        for name, inner in values.items():
            if name in wanted and isinstance(inner, dict):
                found.append(inner)
            else:
                found += _modifiers(inner, wanted)
    return found


def _others(values: Any) -> list[str]:
    """Names of modifiers that are none of those."""
    if not isinstance(values, dict):
        return []
    own = [str(name) for name in values if str(name).endswith("Modifier") and name not in (*PRUNERS, *QUANTIZERS)]
    return own + [name for inner in values.values() for name in _others(inner)]


def _matched(
    wanted: Sequence[str], ignored: Sequence[str], anatomy: Anatomy, where: str
) -> Iterator[list[tuple[int, str]]]:
    """For each module that a target matches, in module order, the linears inside the blocks that it stands for.

    A module outside the blocks has a place in the list as well, and stands for none of them.

    Raises:
        SecateurError: a target that nothing matches.
    """
    unused = set(wanted)

    def hit(name: str, kind: str, patterns: Sequence[str]) -> bool:
        found = [one for one in patterns if one in (name, kind) or (one[:3] == "re:" and re.match(one[3:], name))]
        unused.difference_update(found)
        return bool(found)

    for block in anatomy.blocks:
        name = f"{anatomy.blocks_path}.{block.index}"
        linears = [(block.index, linear.name) for linear in block.linears]
        kinds = [one for one in wanted if re.fullmatch(r"\w+(DecoderLayer|Block|Layer)", one)]
        if hit(name, kinds[0] if kinds else "", wanted):
            yield [one for one in linears if not hit(f"{name}.{one[1]}", "", ignored)]
            continue
        for one in linears:
            full = f"{name}.{one[1]}"
            if hit(full, "Linear", wanted) and not hit(full, "", ignored):
                yield [one]
    if hit("lm_head", "Linear", wanted) and not hit("lm_head", "", ignored):
        yield []
    for target in sorted(unused):
        if not target.startswith("re:"):
            located(target, anatomy, where)
        raise SecateurError(f"{where}: nothing in the model matches the target '{target}'")


LLM_COMPRESSOR = Format(
    "llm-compressor",
    "recipe for its oneshot",
    ZEROS | of("grid", "both"),
    write,
    refuses=refuses,
    reads=reads,
    read=read,
    head=True,
)
