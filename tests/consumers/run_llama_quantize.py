"""Run under llama.cpp's packages: what `llama-quantize --prune-layers LIST dense.gguf smaller.gguf f32` calls.

python run_llama_quantize.py DENSE.gguf LIST.txt SMALLER.gguf
"""

import ctypes
import sys
from pathlib import Path

import llama_cpp


def main(dense: str, listed: str, smaller: str) -> None:
    layers = [int(layer) for layer in Path(listed).read_text().split(",")]
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    parameters.allow_requantize = True
    # The end is -1.
    parameters.prune_layers = (ctypes.c_int32 * (len(layers) + 1))(*layers, -1)
    failed = llama_cpp.llama_model_quantize(dense.encode(), smaller.encode(), ctypes.byref(parameters))
    sys.exit(failed)


if __name__ == "__main__":
    main(*sys.argv[1:])
