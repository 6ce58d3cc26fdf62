"""The settings of a recipe that are about short training of candidates."""

from typing import Annotated, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from ...space.settings import Positive, Settings
from .settings import TextSettings

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


class StageSettings(Settings):
    """One stage of selection by training."""

    tokens: Positive | None = None
    """That each candidate is trained on."""
    steps: Positive | None = None
    """Of a batch each, instead of `tokens`."""
    survivors: Positive
    """How many go on after it; the last stage leaves 1."""

    @model_validator(mode="after")
    def _one_of_two(self) -> "StageSettings":
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("a stage has 'tokens' or 'steps', one of the two")
        return self


class TrainingSettings(Settings):
    """Short training of candidates before the last choice among them; `darwin` has stages of its own."""

    what: Literal["lora", "norms", "full"] = "lora"
    """Low-rank updates, norms and biases alone, or every weight that is left."""
    loss: Literal["distillation", "cross_entropy", "both"] = "distillation"
    """KL from the dense model, cross-entropy, or the mean of both."""
    optimiser: OneOrEach[Optimiser] = Field(default="adamw", examples=[["adamw", "sgd"]])
    """One for all stages, or a list with one for each."""
    learning_rate: OneOrEach[Rate] = Field(default=1e-3, examples=[[1e-3, 5e-4]])
    """One for all stages, or a list with one for each."""
    rank: Positive = 16
    """Of the updates of `lora`."""
    batch: Positive = 4
    """Sequences a step."""
    text: TextSettings | None = None
    """What is trained on, other documents than those of calibration; null: as much as the stages need of
    calibration's source."""
    candidates: Annotated[int, Field(ge=2, le=10**6)] = 8
    """The best of the search, which go through `stages`."""
    stages: Annotated[tuple[StageSettings, ...], Field(min_length=1)] = Field(
        default=(StageSettings(tokens=8192, survivors=3), StageSettings(tokens=32768, survivors=1)),
        examples=[[{"tokens": 8192, "survivors": 3}, {"steps": 32, "survivors": 1}]],
    )
    """What they are trained on, and who goes on."""
    sequences: Positive = 8
    """Of calibration, on which they are scored after each stage."""

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
