"""Run under ModelOpt's packages: builds a model of its Puzzletron from block_configs, loads weights, saves its logits.

python run_modelopt.py MODEL EXPORT WEIGHTS.safetensors IDS.safetensors OUT.safetensors
"""

import json
import sys
from pathlib import Path

import torch
from modelopt.torch.puzzletron.anymodel import deci_x_patcher
from modelopt.torch.puzzletron.anymodel.models.llama import LlamaModelDescriptor
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM


def main(model: str, export: str, weights: str, ids: str, out: str) -> None:
    config = AutoConfig.from_pretrained(model)
    values = json.loads((Path(export) / "block_configs.json").read_text())
    with deci_x_patcher(LlamaModelDescriptor, values["block_configs"]):
        smaller = AutoModelForCausalLM.from_config(config).eval()
    smaller.load_state_dict(load_file(weights), strict=True)
    with torch.no_grad():
        save_file({"logits": smaller(load_file(ids)["ids"], use_cache=False).logits}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
