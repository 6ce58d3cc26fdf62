"""Run under ModelOpt's packages: quantizes a model by a quant_cfg, and saves every linear's weights as it rounds them.

python run_modelopt_quantize.py MODEL EXPORT OUT.safetensors
"""

import sys
from pathlib import Path

import modelopt.torch.quantization as mtq
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM


def main(path: str, export: str, out: str) -> None:
    config = yaml.safe_load((Path(export) / "quant_cfg.yaml").read_text())
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = torch.randint(3, 90, (2, 16), generator=torch.manual_seed(0))
    mtq.quantize(model, config, forward_loop=lambda made: made(ids))
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            quantizer = getattr(module, "weight_quantizer", None)
            weight = quantizer(module.weight) if quantizer is not None else module.weight
            found[name] = weight.detach().float().contiguous().clone()
    save_file(found, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
