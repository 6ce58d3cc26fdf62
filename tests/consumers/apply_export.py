"""Run under a consumer's packages: carries out an export by the snippet beside it, and saves every parameter.

python apply_export.py MODEL EXPORT OUT.safetensors
"""

import importlib.util
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main(model_path: str, export: str, out: str) -> None:
    spec = importlib.util.spec_from_file_location("apply", Path(export) / "apply.py")
    assert spec is not None
    assert spec.loader is not None
    snippet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(snippet)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager")
    if hasattr(snippet, "RATIOS"):
        tokens = torch.randint(0, 90, (1, 8), generator=torch.manual_seed(0))
        snippet.prune(model, tokens)
        assert torch.isfinite(model(tokens).logits).all()
    else:
        snippet.prune(model)
    save_file({name: value.detach().contiguous() for name, value in model.named_parameters()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
