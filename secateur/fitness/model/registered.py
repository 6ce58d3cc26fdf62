"""Our checkpoints' classes in transformers' registry, so that they load without remote code.

The same functions make them that an exported modeling file carries (`surgery.py`); only the description of the family
comes from its anatomy instead of a table in the file.
"""

from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig

from ...space.anatomy import Anatomy
from ...space.families.parts import without_head
from ...space.families.table import FAMILIES, anatomy
from ..subnets.materialise import tables
from .surgery import config_class, model_class


def register() -> None:
    """Registers a configuration for each family; its model follows when the first one is made."""
    for family in FAMILIES:
        stock = CONFIG_MAPPING[family]
        AutoConfig.register(f"secateur_{family}", _with_model(config_class(stock, family), family), exist_ok=True)


def tables_of(config: Any) -> dict[str, Any]:
    """The description of the family of one of our configurations."""
    return tables(_dense_anatomy(config))


def tables_of_base(config: Any) -> dict[str, Any]:
    """The same for the model without a head, whichever it was written for."""
    shape = _dense_anatomy(config)
    return tables(shape if shape.headless else without_head(shape))


def _dense_anatomy(config: Any) -> Anatomy:
    values = config.to_dict()
    return anatomy(values | {"model_type": values["model_type"].removeprefix("secateur_"), "per_layer_config": None})


def _with_model(config: Any, family: str) -> Any:
    """The configuration class, which registers its model before it is first used: importing every model takes long."""
    plain = config.__init__

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        _register_model(config, family)
        plain(self, *args, **kwargs)

    config.__init__ = initialise
    return config


def _register_model(config: Any, family: str) -> None:
    head = transformers.AutoModelForMaskedLM if FAMILIES[family].encoder else transformers.AutoModelForCausalLM
    for auto, described in ((head, tables_of), (transformers.AutoModel, tables_of_base)):
        if config not in auto._model_mapping:
            stock = auto._model_mapping[CONFIG_MAPPING[family]]
            auto.register(config, model_class(stock, config, described), exist_ok=True)
