"""Run under torchao's packages: loads a model by a quantization_config, and saves every linear's weights as floats.

python run_torchao.py MODEL EXPORT OUT.safetensors
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, TorchAoConfig


def main(model: str, export: str, out: str) -> None:
    values = json.loads((Path(export) / "quantization_config.json").read_text())
    config = TorchAoConfig.from_dict(values)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, quantization_config=config)
    found = {}
    for name, module in loaded.named_modules():
        if isinstance(module, torch.nn.Linear):
            plain = type(module.weight) is torch.nn.Parameter
            weight = module.weight if plain else module.weight.dequantize()
            found[name] = weight.detach().float().contiguous().clone()
    save_file(found, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
