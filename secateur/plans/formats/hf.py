"""A smaller checkpoint for transformers, and what its configuration says of its layers."""

from ...space.anatomy import Anatomy
from ...space.errors import SecateurError
from ..changes import Changes
from ..features import ALL, Subject
from .form import Content, Format


def refuses(subject: Subject) -> str | None:
    """Why transformers could not run a subnet with a cache; None where it can."""
    first = next(iter(subject.kept), None)
    if first is None or not subject.anatomy.causal:
        return None
    if any(one.attends and not subject.states[first].has(one) for one in subject.anatomy.blocks[first].sublayers):
        return f"caches read their length off the first layer that is left, and layer {first} has no attention"
    return None


def reads(content: Content) -> bool:
    """A config.json of ours; those with `block_configs` are of other tools."""
    return "per_layer_config" in content.names and "block_configs" not in content.names


def read(content: Content, anatomy: Anatomy) -> Changes:
    """The config.json of a checkpoint with sizes of its own per layer; `skip` drops sublayers."""
    values, where = content.values, content.where
    layers = values.get("num_hidden_layers")
    if layers != len(anatomy.blocks):
        raise SecateurError(
            f"{where}: has {layers} layers, the model {len(anatomy.blocks)}: which are gone it does not say; "
            "read the plan.json beside it"
        )
    names = dict(anatomy.config_names)
    outside = next((key for key in values["per_layer_config"] if not 0 <= int(key) < len(anatomy.blocks)), None)
    if outside is not None:
        raise SecateurError(f"{where}: layer {outside}, but the model has {len(anatomy.blocks)}")
    changes = Changes(hidden=int(values.get(names.get("hidden", ""), anatomy.hidden_size)))
    for block in anatomy.blocks:
        own = {}
        for key, entry in values["per_layer_config"].items():
            if int(key) == block.index:
                own = entry
        both = {**values, **own}
        groups = int(both.get(names.get("groups", ""), block.dimensions["groups"]))
        heads = int(both.get(names.get("heads", ""), block.dense_sizes["heads"]))
        if heads % max(1, groups):
            raise SecateurError(f"{where}: layer {block.index}: {heads} query heads do not go into {groups} KV groups")
        changes.kept["groups", block.index] = groups
        changes.kept["queries", block.index] = heads // max(1, groups)
        changes.kept["channels", block.index] = int(both.get(names.get("channel", ""), block.dimensions["channels"]))
        changes.kept |= {(block.sublayer(name).dimensions[0], block.index): 0 for name in own.get("skip", ())}
    return changes


HF = Format(
    "hf",
    "a smaller checkpoint for transformers",
    ALL,
    weights="..checkpoint.hf:begin",
    refuses=refuses,
    reads=reads,
    read=read,
    first=True,
)
