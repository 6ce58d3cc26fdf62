"""The settings of a recipe, section by section: frozen values that refuse what does not fit them."""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ...space.budget import parse_bytes
from ...space.errors import SecateurError
from ...space.settings import Positive, Settings

ONE, EACH = "one", "each"


def _one_or_each(value: object) -> str:
    return EACH if isinstance(value, list | tuple) else ONE


Value = TypeVar("Value")
# A value for all stages, or a list of one for each; told apart first, so that what is wrong is said once.
OneOrEach = Annotated[
    Annotated[Value, Tag(ONE)] | Annotated[tuple[Value, ...], Field(min_length=1), Tag(EACH)],
    Discriminator(_one_or_each),
]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Optimiser = Literal["adamw", "sgd"]


class ModelSettings(Settings):
    """Which model: `package:NAME` (a GGUF in an installed package), a .gguf file, a folder, or a hub name.

    `dtype`: what a search computes in; `saved_dtype`: what weights are counted and written in, `auto` being the
    checkpoint's own. `device`: cpu, an accelerator as torch names it (cuda, cuda:1, xpu, mps), or auto. `memory`: how
    much of the device may be used, such as 12GB; null: what is free there. Of a model that takes more, blocks come to
    the device in turns; `offload`: from the host's memory (cpu), or from the checkpoint's files (disk); null: whichever
    has room.
    """

    path: str
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    saved_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "cpu"
    trust_remote_code: bool = False
    memory: Annotated[str | int, Field(union_mode="left_to_right")] | None = None
    offload: Literal["cpu", "disk"] | None = None

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

    What comes out does not depend on how many they are. `count`: how many; null: all that a cluster has. `address`: of
    the cluster's scheduler (Dask: tcp://HOST:PORT; Ray: auto, or HOST:PORT). `gpus`: that each worker of a Ray cluster
    is given. `threads`: that each computes with on a CPU, by which sums differ in their last bits; null: processes
    divide the cores, workers of a cluster have one, and a run goes on as it was begun. `timeout`: seconds after which
    workers that answer nothing are taken to hang, and 24 times as many where levels are prepared, candidates trained or
    tasks put; null: never.
    """

    backend: Literal["processes", "dask", "ray"] = "processes"
    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    address: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    gpus: Annotated[int, Field(ge=1, le=64)] | None = None
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    timeout: Annotated[float, Field(gt=0, le=10**8)] | None = 3600.0

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


class TextSettings(Settings):
    """Which text, and how much: `sequences` of `length` tokens, at most `windows_per_document` from one document.

    `config`: which one of a dataset that has several. `prefix`: every sequence begins with the tokens that the
    tokenizer begins a text with, if any. `positions`: at how many positions of each sequence it is scored, spread
    evenly at random (null: at all).
    """

    source: str
    field: str = "text"
    split: str = "train"
    config: str | None = None
    prefix: bool = True
    sequences: Positive = 32
    length: Annotated[int, Field(ge=8, le=2**31)] = 512
    windows_per_document: Positive = 1
    positions: Positive | None = None
    name: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _positions_exist(self) -> "TextSettings":
        if self.positions is not None and self.positions >= self.length:
            raise ValueError(f"positions: {self.positions} are more than the {self.length - 1} with a next token")
        return self

    @property
    def title(self) -> str:
        """`name`, or the last part of the source."""
        return self.name or Path(self.source.split(":")[-1]).stem


class WidthsSettings(Settings):
    """How narrower sublayers are made.

    `order`: by what heads and channels are kept; `repair`: what is done about those that are gone; `hidden`: how the
    residual stream is narrowed.
    """

    order: Literal["magnitude", "taylor", "wanda-sp", "flap", "output-error", "obs"] = "output-error"
    repair: Literal["bias", "mask", "least-squares", "admm"] | None = "least-squares"
    hidden: Literal["pca", "magnitude"] = "pca"


class LatencySettings(Settings):
    """The device whose latency counts, and the request that is timed.

    `device`: as the model's, through torch, where that is; `llama.cpp`: searched on the table of the CPU, the front
    timed there; `estimate`: a lower bound from stated peaks. A request is `prefill` tokens in each of `batch`
    sequences, then `decode` tokens one by one. `threads` for the CPU (as many as torch takes by default). The table is
    measured until the 95 % interval of every entry, over all layers, is within `spread` of the whole model's time, or
    `seconds` are over. Whole models are timed `repeats` times, in turns with the dense one.
    """

    device: Annotated[str, Field(max_length=40)]
    batch: Positive = 1
    prefill: Annotated[int, Field(ge=8, le=2**40)] = 512
    decode: Annotated[int, Field(ge=0, le=2**40)] = 32
    threads: Positive | None = None
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.005
    seconds: Annotated[float, Field(gt=0, le=10**7)] = 180.0
    repeats: Annotated[int, Field(ge=3, le=10**6)] = 7
    name: Annotated[str, Field(max_length=100)] = ""
    gflops: Annotated[float, Field(gt=0, le=10**12)] | None = None
    bandwidth: Annotated[float, Field(gt=0, le=10**12)] | None = None

    @model_validator(mode="after")
    def _fits_device(self) -> "LatencySettings":
        if self.device == "llama.cpp" and self.batch > 1:
            raise ValueError("llama.cpp is timed with one sequence; leave batch at 1")
        peaks = self.gflops is not None and self.bandwidth is not None
        if self.device == "estimate" and not peaks:
            raise ValueError("an estimate needs the device's peaks: gflops, and bandwidth in GB/s")
        if self.device != "estimate" and (self.gflops is not None or self.bandwidth is not None):
            raise ValueError(f"gflops and bandwidth are for device: estimate, not {self.device}, which is measured")
        return self


class TasksSettings(Settings):
    """lm-eval tasks as objectives, `lm-eval:NAME`: their definitions are in the folder `include`.

    `documents` of a task are scored for each calibration sequence. Published benchmarks are refused unless `benchmarks`
    says otherwise: what a search has seen cannot be reported honestly after. `code`: definitions may run Python
    (`!function`). `timeout`: seconds for a function of your own (`module:function`) on one sequence, after which the
    candidate has failed; null: as long as it takes.
    """

    include: str | None = None
    documents: Positive = 8
    benchmarks: bool = False
    code: bool = False
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class StageSettings(Settings):
    """One stage of selection: each is trained on `tokens`, or for `steps` of a batch each; then `survivors` go on."""

    tokens: Positive | None = None
    steps: Positive | None = None
    survivors: Positive

    @model_validator(mode="after")
    def _one_of_two(self) -> "StageSettings":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("a stage has 'tokens' or 'steps', one of the two")
        return self


class TrainingSettings(Settings):
    """Short training of candidates before the last choice among them.

    `what`: low-rank updates (`lora`, of `rank`), norms and biases alone, or every weight that is left. `loss`: KL from
    the dense model, cross-entropy, or the mean of both; `batch` sequences a step. `optimiser` and `learning_rate` are
    one for all stages, or a list with one for each. `text`: what is trained on, other documents than those of
    calibration; null: as much as the stages need of calibration's source. The best `candidates` of the search go
    through `stages` and are scored on `sequences` of calibration after each. `darwin` has stages of its own.
    """

    what: Literal["lora", "norms", "full"] = "lora"
    loss: Literal["distillation", "cross_entropy", "both"] = "distillation"
    optimiser: OneOrEach[Optimiser] = "adamw"
    learning_rate: OneOrEach[Rate] = 1e-3
    rank: Positive = 16
    batch: Positive = 4
    text: TextSettings | None = None
    candidates: Annotated[int, Field(ge=2, le=10**6)] = 8
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = (
        StageSettings(tokens=8192, survivors=3),
        StageSettings(tokens=32768, survivors=1),
    )
    sequences: Positive = 8

    @property
    def selects(self) -> bool:
        """Whether it says who is selected by it at the end of a search."""
        plain = TrainingSettings()
        return (self.candidates, self.stages, self.sequences) != (plain.candidates, plain.stages, plain.sequences)

    @model_validator(mode="after")
    def _fits_stages(self) -> "TrainingSettings":
        survivors = [stage.survivors for stage in self.stages]
        if survivors[-1] != 1 or [self.candidates, *survivors] != sorted([self.candidates, *survivors], reverse=True):
            raise ValueError("training.stages: each stage keeps at most as many as came to it, the last one keeps 1")
        return self


class FrontSettings(Settings):
    """What becomes of a front: at most `members` of it are confirmed and timed, beside references of `points` sizes."""

    members: Annotated[int, Field(ge=2, le=1000)] = 16
    points: Annotated[int, Field(ge=2, le=1000)] = 8


class Effort(Settings):
    """What the search may spend; baselines and confirmation come on top.

    `minutes` is turned into tokens once, from the measured speed of this machine, when the run is created; a recipe
    with `tokens` or `evaluations` gives the same result everywhere.
    """

    tokens: Positive | None = None
    evaluations: Positive | None = None
    minutes: Annotated[float, Field(gt=0, le=10**7)] | None = None
