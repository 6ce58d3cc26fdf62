"""Every format that a plan can be written in, what each can express, and why it cannot carry a given plan."""

from collections.abc import Callable
from dataclasses import dataclass

from ...space.errors import SecateurError
from ..checkpoint.gguf import check_biases, check_model, check_states
from ..features import ALL, Feature, Source, features
from . import profile, removals, shapes, sparsity
from .sparsity import Files

Check = Callable[[Source], str | None]


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        about: what it is and who reads it.
        carries: what it can express.
        write: makes its files; None where that takes the model's weights (`hf`, `gguf`).
        check: why it cannot carry a plan although it could express all of it.
    """

    name: str
    about: str
    carries: frozenset[Feature]
    write: Callable[[Source], Files] | None
    check: Check = lambda source: None


def _gguf(source: Source) -> str | None:
    try:
        check_model(source.anatomy, source.config)
        check_states(source.states, source.anatomy)
        if source.plan.widths is not None and source.plan.widths.repair == "bias":
            check_biases(source.anatomy)
    except SecateurError as error:
        return str(error).removeprefix("gguf: ")
    return None


def _hf(source: Source) -> str | None:
    first = next(iter(source.kept), None)
    if first is not None and source.anatomy.causal and not source.states[first].attention:
        return f"caches read their length off the first layer that is left, and layer {first} keeps its MLP alone"
    return None


def _plan(source: Source) -> Files:
    return {"plan.json": source.plan.to_text()}


def _of(*carried: Feature) -> frozenset[Feature]:
    return frozenset(carried)


_ZEROS = _of("shares", "patterns")
_DROPS = _of("layers", "sublayers")
_UNITS = _DROPS | _of("groups", "channels")
FORMATS = {
    form.name: form
    for form in (
        Format("plan", "the neutral plan, JSON with a schema", ALL, _plan),
        Format("hf", "a smaller checkpoint for transformers", ALL, None, _hf),
        Format("gguf", "a smaller model for llama.cpp", ALL - {"hidden"}, None, _gguf),
        Format("llm-compressor", "recipe for its oneshot", _ZEROS, sparsity.llm_compressor, sparsity.check_order),
        Format("torchao", "list for its sparsifiers, with a snippet", _ZEROS, sparsity.torchao, sparsity.check_linears),
        Format(
            "torch-prune",
            "the same list for torch.nn.utils.prune",
            _ZEROS,
            sparsity.torch_prune,
            sparsity.check_linears,
        ),
        Format(
            "torch-pruning",
            "ratios by module, with a snippet",
            _of("channels", "queries"),
            shapes.torch_pruning,
            shapes.check_torch_pruning,
        ),
        Format("mergekit", "passthrough recipe", _of("layers"), removals.mergekit, removals.check_mergekit),
        Format(
            "block_configs",
            "block_configs of ModelOpt's Puzzletron",
            _DROPS | _of("channels"),
            shapes.block_configs,
            shapes.check_puzzletron,
        ),
        Format("evopress", "its layer_drop_config.txt", _DROPS, removals.evopress_drops),
        Format(
            "evopress-levels",
            "its levels by linear",
            _of("shares"),
            sparsity.evopress_levels,
            sparsity.check_linears,
        ),
        Format("darwinlm", "its levels by projection", _UNITS | _of("queries"), shapes.darwinlm, shapes.check_darwinlm),
        Format(
            "multipruner",
            "its pruning_config.json",
            _UNITS,
            shapes.multipruner,
            shapes.check_multipruner,
        ),
        Format("sleb", "its list of removed layers", _of("layers"), removals.sleb),
        Format("blockpruner", "its list of removed sublayers", _DROPS, removals.blockpruner),
        Format(
            "alphapruning",
            "its .npy of ratios, for code in the manner of Wanda and SparseGPT",
            _of("shares"),
            sparsity.alphapruning,
            sparsity.check_order,
        ),
        Format(
            "llama-quantize",
            "the list of its --prune-layers",
            _of("layers"),
            removals.llama_quantize,
            removals.check_removed,
        ),
        Format("json", "the bare profile", ALL, profile.as_json),
        Format("yaml", "the bare profile", ALL, profile.as_yaml),
        Format("csv", "the bare profile, a row for each layer", ALL, profile.as_csv),
    )
}


def refusal(form: Format, source: Source) -> str | None:
    """Why a plan cannot be written so; None where it can."""
    asked = features(source.anatomy, source.states)
    missing = next((where for feature, where in asked.items() if feature not in form.carries), None)
    if missing is not None:
        return f"{missing}, which it cannot express"
    reason = form.check(source)
    # Of what is dropped or kept whole nothing is left to choose.
    narrower = next((where for feature, where in asked.items() if feature not in ("layers", "sublayers")), None)
    if reason is None and form.write is None and not source.plan.recipe and narrower is not None:
        return f"the plan was read from another tool's file, which says how much is kept and not what ({narrower})"
    return reason


def check(form: Format, source: Source) -> None:
    """Raises SecateurError when the format cannot carry the plan; says what and where."""
    reason = refusal(form, source)
    if reason is not None:
        raise SecateurError(f"--to {form.name}: {reason}")


def files(form: Format, source: Source) -> Files:
    """The contents of an export by file name, for a format that needs no weights.

    Raises:
        SecateurError: the format cannot carry the plan.
    """
    check(form, source)
    assert form.write is not None
    return form.write(source)
