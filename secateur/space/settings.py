"""Settings: frozen values with names, that refuse what does not fit them, each in its own words."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from .errors import suggest

Positive = Annotated[int, Field(ge=1, le=2**62)]
Probability = Annotated[float, Field(gt=0, lt=1)]
UNKNOWN = "unknown_key"
"""The type of the error of a key that a section does not have."""


class Settings(BaseModel):
    """A section of a recipe. A key that it does not have is answered with the nearest that it has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="wrap")
    @classmethod
    def _keys_are_known(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(values)
        except ValidationError as error:
            raise ValidationError.from_exception_data(error.title, [cls._told(one) for one in error.errors()]) from None

    @classmethod
    def _told(cls, error: Any) -> InitErrorDetails:
        """One error as pydantic takes it again: of a key that this section does not have, what it might have been."""
        kind: str | PydanticCustomError = error["type"]
        if kind == UNKNOWN:  # of a section inside
            kind = PydanticCustomError(UNKNOWN, "{said}", {"said": error["msg"]})
        elif kind == "extra_forbidden" and len(error["loc"]) == 1:
            said = f"unknown key; {suggest(str(error['loc'][0]), cls.model_fields)}"
            kind = PydanticCustomError(UNKNOWN, "{said}", {"said": said})
        return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))
