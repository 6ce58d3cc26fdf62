"""The settings of a recipe, section by section: frozen values that refuse what does not fit them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...space.settings import Positive, Settings

TRAINING = "training"
"""The name of the text that candidates are trained on."""


MIXTURE = "a mixture"


class PartSettings(Settings):
    """One of several texts that are mixed."""

    source: str = Field(examples=["my.txt", "package:quac"])
    """As that of a text alone."""
    weight: Annotated[float, Field(gt=0, le=10**6)] = 1.0
    """Its share of the sequences, relative to those of the others."""
    field: str = "text"
    """Of a record, where the text stands."""
    split: str = "train"
    """Of a dataset."""
    config: str | None = None
    """Which one of a dataset that has several."""
    windows_per_document: Positive | None = None
    """Sequences that one document may give; null: as many as in the whole mixture."""
    name: Annotated[str, Field(max_length=200)] = ""
    """In reports; empty: the last part of the source."""

    @property
    def title(self) -> str:
        """`name`, or the last part of the source."""
        return self.name or Path(self.source.split(":")[-1]).stem


class TextSettings(Settings):
    """Which text, and how much of it. A text alone is its `source`; a list of texts is their `mixture`."""

    source: str = Field(examples=["my.txt", "data/my.jsonl", "package:quac", "Salesforce/wikitext"])
    """A .txt, .jsonl, .parquet or .npy file, `package:NAME`, or a dataset's name."""
    mixture: tuple[PartSettings, ...] = Field(default=(), examples=[[{"source": "my.txt"}, {"source": "package:quac"}]])
    """In place of `source`: texts that are mixed by weight, evenly, so that every part of the whole has all of them."""
    field: str = "text"
    """Of a record, where the text stands."""
    split: str = "train"
    """Of a dataset."""
    config: str | None = Field(default=None, examples=["wikitext-2-raw-v1"])
    """Which one of a dataset that has several."""
    prefix: bool = True
    """Whether every sequence begins with the tokens that the tokenizer begins a text with, if any."""
    sequences: Positive = 32
    """How many are taken."""
    length: Annotated[int, Field(ge=8, le=2**31)] = 512
    """Tokens of each."""
    windows_per_document: Positive = 1
    """Sequences that one document may give, so that they are nearly independent."""
    positions: Positive | None = None
    """At how many positions of each sequence it is scored, spread evenly at random; null: at all."""
    name: Annotated[str, Field(max_length=200)] = ""
    """In reports; empty: the last part of the source."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_mixture(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("mixture"):
            if values.get("source", MIXTURE) != MIXTURE:
                raise ValueError("mixture: the texts that are mixed have sources of their own; leave 'source' out")
            return {**values, "source": MIXTURE}
        return values

    @model_validator(mode="after")
    def _parts_differ(self) -> "TextSettings":
        titles = [part.title for part in self.mixture]
        if len(titles) == 1:
            raise ValueError("mixture: one text is no mixture; write it as the source")
        if len(set(titles)) != len(titles):
            raise ValueError("mixture: two texts have the same name; set 'name' on one of them")
        if self.source == MIXTURE and not self.mixture:
            raise ValueError("mixture: names no texts")
        if self.sequences < len(titles):
            raise ValueError(f"sequences: {self.sequences} are fewer than the {len(titles)} texts that are mixed")
        return self

    @model_validator(mode="after")
    def _positions_exist(self) -> "TextSettings":
        if self.positions is not None and self.positions >= self.length:
            raise ValueError(f"positions: {self.positions} are more than the {self.length - 1} with a next token")
        return self

    @property
    def title(self) -> str:
        """`name`, or the last part of the source."""
        return self.name or Path(self.source.split(":")[-1]).stem


class LogSettings(Settings):
    """A tracker that a run is logged to. A name alone is `to`."""

    to: Literal["tensorboard", "mlflow", "wandb"]
    """Through its own package, which is an extra of the same name."""
    project: Annotated[str, Field(min_length=1, max_length=200)] = "secateur"
    """MLflow's experiment, or the project of Weights & Biases."""
    address: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, examples=["http://HOST:5000", "sqlite:///mlflow.db"]
    )
    """Of MLflow's tracking server or database, or of a server of Weights & Biases; null: where their own environment
    variables say. TensorBoard's files are in the run's folder."""

    @model_validator(mode="after")
    def _has_an_address(self) -> "LogSettings":
        if self.to == "tensorboard" and self.address is not None:
            raise ValueError("address: tensorboard has none: its files are in the run's folder")
        return self


class WidthsSettings(Settings):
    """How narrower sublayers are made."""

    order: Literal["magnitude", "taylor", "wanda-sp", "flap", "output-error", "obs"] = "output-error"
    """By what heads and channels are kept."""
    repair: Literal["bias", "mask", "least-squares", "admm"] | None = "least-squares"
    """What is done about those that are gone; null: nothing."""
    hidden: Literal["pca", "magnitude"] = "pca"
    """How the residual stream is narrowed."""


class LatencySettings(Settings):
    """The device whose latency counts, and the request that is timed."""

    device: Annotated[str, Field(max_length=40)] = Field(examples=["cpu", "cuda", "llama.cpp", "estimate"])
    """The model's, through torch; `llama.cpp`: searched on the table of the CPU, the front timed there; `estimate`: a
    lower bound from stated peaks."""
    batch: Positive = 1
    """Sequences of a request."""
    prefill: Annotated[int, Field(ge=8, le=2**40)] = 512
    """Tokens that each begins with."""
    decode: Annotated[int, Field(ge=0, le=2**40)] = 32
    """Tokens that follow one by one."""
    threads: Positive | None = None
    """For the CPU; null: as many as torch takes."""
    spread: Annotated[float, Field(gt=0, lt=1)] = 0.005
    """The table is measured until the 95 % interval of every entry, over all layers, is within this share of the whole
    model's time."""
    seconds: Annotated[float, Field(gt=0, le=10**7)] = 180.0
    """After which it is measured well enough in any case."""
    repeats: Annotated[int, Field(ge=3, le=10**6)] = 7
    """Whole models are timed so often, in turns with the dense one."""
    name: Annotated[str, Field(max_length=100)] = ""
    """Of the device, in reports."""
    gflops: Annotated[float, Field(gt=0, le=10**12)] | None = None
    """Of an `estimate`: its peak, in billions of operations a second."""
    bandwidth: Annotated[float, Field(gt=0, le=10**12)] | None = None
    """Of an `estimate`: its memory's, in GB/s."""

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
    """lm-eval tasks as objectives (`lm-eval:NAME`), and functions of your own."""

    include: str | None = Field(default=None, examples=["tasks"])
    """The folder of their definitions."""
    documents: Positive = 8
    """Of a task, that are scored for each calibration sequence."""
    benchmarks: bool = False
    """Whether published ones may be searched on: what a search has seen cannot be reported honestly after."""
    code: bool = False
    """Whether definitions may run Python (`!function`)."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds for a function of your own (`module:function`) on one sequence, after which the candidate has failed;
    null: as long as it takes."""


class ValidationSettings(Settings):
    """A share of the calibration text on which the answer is chosen, and that the search does not see. A number alone
    is the `share`."""

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Of the sequences, that are kept from the search."""
    finalists: Annotated[int, Field(ge=2, le=1000)] = 4
    """The best so many of the search are scored on them; of those within one standard error the cheapest is taken."""


class FrontSettings(Settings):
    """What becomes of a front."""

    members: Annotated[int, Field(ge=2, le=1000)] = 16
    """At most so many are confirmed and timed."""
    points: Annotated[int, Field(ge=2, le=1000)] = 8
    """Sizes in which each reference stands beside them."""


class Effort(Settings):
    """What the search may spend; baselines and confirmation come on top."""

    tokens: Positive | None = None
    """That are forwarded; the same result everywhere."""
    evaluations: Positive | None = None
    """Of genomes; the same result everywhere."""
    minutes: Annotated[float, Field(gt=0, le=10**7)] | None = None
    """Turned into tokens once, from the measured speed of this machine, when the run is created."""
