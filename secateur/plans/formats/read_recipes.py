"""Recipes that name modules: llm-compressor, mergekit, torchao."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ...space.treatments import Sparsity
from ..changes import Changes, Unit, dropped, located, share
from ..features import OTHER_ORDER

LAST: dict[str, Unit] = {"o_proj": "attention", "down_proj": "mlp"}
"""Projections to the residual stream: scaled by zero, their sublayer does nothing."""


def modifiers(values: Any) -> list[Mapping[str, Any]]:
    """The settings of every pruning modifier in a recipe of llm-compressor, in order; empty where there is none."""
    found: list[Mapping[str, Any]] = []
    if isinstance(values, dict):
        for name, inner in values.items():
            if name in ("SparseGPTModifier", "WandaPruningModifier") and isinstance(inner, dict):
                found.append(inner)
            else:
                found += modifiers(inner)
    return found


def llm_compressor(every: Sequence[Mapping[str, Any]], anatomy: Anatomy, where: str) -> Changes:
    """Shares go to the modules that `targets` match, in module order whatever the order of the targets."""
    changes = Changes()
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
        zeros, _, of = str(settings.get("mask_structure", "0:0")).partition(":")
        for linears, value in zip(matched, shares, strict=True):
            # Its N is the number of zeros in M.
            level = Sparsity.parse(f"{int(of) - int(zeros)}:{of}") if int(of) else share(float(value), where)
            if value:
                changes.sparsity |= dict.fromkeys(linears, level)
    return changes


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


def mergekit(values: Mapping[str, Any], anatomy: Anatomy, where: str) -> Changes:
    """A passthrough of slices in the model's own order; what is in none of them is dropped.

    Layers whose `o_proj` or `down_proj` is scaled by zero have lost that sublayer.
    """
    if values.get("merge_method") != "passthrough":
        raise SecateurError(f"{where}: the merge method is {values.get('merge_method')}; passthrough alone is a plan")
    if "parameters" in values:
        raise SecateurError(f"{where}: parameters of the whole merge are not read; give them to the sources")
    kept: list[int] = []
    models: set[str] = set()
    changes = Changes()
    for part in values["slices"]:
        [source] = part["sources"]
        models.add(str(source["model"]))
        first, stop = source.get("layer_range") or (0, len(anatomy.blocks))
        if stop > len(anatomy.blocks):
            raise SecateurError(f"{where}: layers up to {stop - 1}, but the model has {len(anatomy.blocks)}")
        kept += range(first, stop)
        rules = (source.get("parameters") or {}).get("scale") or ()
        for rule in rules:
            name, value = str(rule.get("filter", "")), float(rule["value"])
            if name in LAST and value == 0:
                changes.kept |= {(LAST[name], layer): 0 for layer in range(first, stop)}
            elif value != 1:
                raise SecateurError(f"{where}: a scale of {value} for '{name}'; o_proj or down_proj by 0 is a plan")
        if "parameters" in part:
            raise SecateurError(f"{where}: parameters of a whole slice are not read; give them to its source")
    if len(models) > 1:
        raise SecateurError(f"{where}: layers of {len(models)} models; that is no pruning")
    if kept != sorted(set(kept)):
        raise SecateurError(f"{where}: layers are repeated or in another order; that is no pruning")
    changes.kept |= dropped(set(range(len(anatomy.blocks))) - set(kept)).kept
    return changes


def torchao(values: Sequence[Mapping[str, Any]], anatomy: Anatomy, where: str) -> Changes:
    """A list of tensors and their shares, or of zeros in every block of a row."""
    changes = Changes()
    for entry in values:
        name = str(entry["tensor_fqn"])
        layer, inside = located(name.removesuffix(".weight"), anatomy, where)
        if "zeros_per_block" in entry and tuple(entry["sparse_block_shape"]) != (1, 1):
            rows, of = entry["sparse_block_shape"]
            if rows != 1 or float(entry["sparsity_level"]) != 1:
                raise SecateurError(
                    f"{where}, {name}: blocks of one row, all of them pruned, are a pattern; these are not"
                )
            changes.sparsity[layer, inside] = Sparsity.parse(f"{of - int(entry['zeros_per_block'])}:{of}")
        else:
            changes.sparsity[layer, inside] = share(float(entry["sparsity_level"]), f"{where}, {name}")
    return changes
