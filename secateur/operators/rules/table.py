"""All rules by the names that recipes have for them."""

from . import (
    angular,
    erdos_renyi,
    flap,
    last_blocks,
    llama_mixes,
    owl,
    shortgpt,
    target_bpw,
    uniform_bits,
    uniform_sparsity,
    uniform_width,
)
from .rule import Rule

RULES: dict[str, Rule] = {
    "last-k": last_blocks.RULE,
    "shortgpt": shortgpt.RULE,
    "angular": angular.RULE,
    "uniform-width": uniform_width.RULE,
    "flap": flap.RULE,
    "uniform": uniform_sparsity.RULE,
    "owl": owl.RULE,
    "uniform-bits": uniform_bits.RULE,
    "llama-mix": llama_mixes.RULE,
    "target-bpw": target_bpw.RULE,
    "er": erdos_renyi.RULE,
}
"""In the order of reports."""
