"""The JSON Schema of a recipe as its author may write it, for editors; generated from the settings."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema

from ...search.strategies.table import STRATEGIES, load
from ...space.costs import COSTS
from ...space.kinds.table import KINDS
from ...space.scores import EXPONENTIALS, SCORES
from ...space.settings import Settings
from .recipe import Recipe
from .settings import LogSettings
from .shorthand import EFFORT_SCHEMA

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
REQUIRED = ("model", "calibration")
"""What a recipe cannot leave out; the rest has defaults, or follows from what it says."""


class _Named(GenerateJsonSchema):
    """Sections by the names of their classes, without titles that only repeat keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> Schema:
    """The JSON Schema (2020-12) of recipes."""
    whole = _of(Recipe)
    sections: dict[str, Schema] = whole.pop("$defs")
    kinds = [_section(entry.settings, "kind", sections, name) for name, entry in KINDS.items()]
    strategies = [_section(load(name), "name", sections, name) for name in STRATEGIES]
    for general in ("GeneSettings", "Strategy"):
        sections.pop(general, None)
    gene: Schema = {"anyOf": [{"enum": list(KINDS)}, *kinds]}
    sections |= {"Gene": gene, "Strategy": {"anyOf": [{"enum": list(STRATEGIES)}, *strategies]}}
    text: Schema = {"anyOf": [TEXT, {"$ref": "#/$defs/TextSettings"}]}
    sections |= {"Text": text, "ListedText": _mixed(sections)}
    listed: Schema = {"type": "array", "items": {"$ref": "#/$defs/ListedText"}, "minItems": 1}
    mixable: list[Schema] = [{"$ref": "#/$defs/Text"}, listed]
    properties: dict[str, Schema] = whole["properties"]
    shorter: Mapping[str, list[Schema]] = {
        "model": [TEXT, {"$ref": "#/$defs/ModelSettings"}],
        "calibration": mixable,
        "prepare": [*mixable, {"type": "null"}],
        "held_out": _one_or_more({"$ref": "#/$defs/Text"}),
        "genes": _one_or_more({"$ref": "#/$defs/Gene"}, 1),
        "validation": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
            {"$ref": "#/$defs/ValidationSettings"},
            {"type": "null"},
        ],
        "budgets": [_by_name(properties["budgets"]), TEXT, {"type": "array", "items": TEXT}],
        "objectives": _one_or_more(TEXT),
        "strategy": [{"$ref": "#/$defs/Strategy"}],
        "effort": [dict(EFFORT_SCHEMA), {"$ref": "#/$defs/Effort"}],
        "baselines": [TEXT, {"type": "array", "items": TEXT}],
        "latency": [TEXT, {"$ref": "#/$defs/LatencySettings"}, {"type": "null"}],
        "training": [
            {"enum": sections["TrainingSettings"]["properties"]["what"]["enum"]},
            {"$ref": "#/$defs/TrainingSettings"},
            {"type": "null"},
        ],
        "log": _one_or_more(
            {
                "anyOf": [
                    {"enum": list(get_args(LogSettings.model_fields["to"].annotation))},
                    {"$ref": "#/$defs/LogSettings"},
                ]
            }
        ),
        "workers": [{"type": "integer", "minimum": 1, "maximum": 10_000}, {"$ref": "#/$defs/WorkersSettings"}],
    }
    for name, ways in shorter.items():
        kept: Schema = {
            key: properties[name][key] for key in ("description", "default", "examples") if key in properties[name]
        }
        properties[name] = {**kept, "anyOf": ways}
    for name, reference in (("widths", "WidthsSettings"), ("front", "FrontSettings")):
        properties[name] = {"$ref": f"#/$defs/{reference}", "description": sections[reference]["description"]}
    for name in ("held_out", "effort"):  # follow from what else a recipe says
        properties[name].pop("default", None)
    latency = sections["LatencySettings"]
    latency["properties"]["quick"] = {"type": "boolean", "description": "Measure less, and less exactly."}
    latency["required"] = []
    sections["TrainingSettings"]["properties"]["text"]["anyOf"] = [{"$ref": "#/$defs/Text"}, {"type": "null"}]
    found: Schema = _in_one_line(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **whole,
            "title": "Secateur recipe",
            "required": list(REQUIRED),
            "$defs": dict(sorted(sections.items())),
        }
    )
    return found


def _mixed(sections: dict[str, Schema]) -> Schema:
    """A text in a list of those that are mixed, which may have a weight; a section needs a source or a mixture."""
    part, whole = sections["PartSettings"], sections["TextSettings"]
    whole["properties"]["mixture"]["items"] = {"anyOf": [TEXT, {"$ref": "#/$defs/PartSettings"}]}
    whole.pop("required")
    whole["anyOf"] = [{"required": ["source"]}, {"required": ["mixture"]}]
    own = {name: one for name, one in whole["properties"].items() if name != "mixture"}
    properties = {**own, **part["properties"]}
    about = f"{part['description']} What texts that are mixed agree on, such as `length`, may stand at each."
    section = {"type": "object", "description": about, "properties": properties}
    return {"anyOf": [TEXT, {**section, "required": ["source"], "additionalProperties": False}]}


def _in_one_line(part: Any) -> Any:
    """With descriptions that are not broken into lines."""
    if isinstance(part, list):
        return [_in_one_line(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: " ".join(one.split()) if key == "description" and isinstance(one, str) else _in_one_line(one)
        for key, one in part.items()
    }


def _of(settings: type[Settings]) -> Schema:
    found: Schema = settings.model_json_schema(schema_generator=_Named)
    return found


def _section(settings: type[Settings], key: str, sections: dict[str, Schema], name: str) -> Schema:
    """A reference to the settings that a table has for a name; what they refer to is put with the other `sections`."""
    found = _of(settings)
    inner: dict[str, Schema] = found.pop("$defs", {})
    sections |= {title: one for title, one in inner.items() if title not in ("Strategy", "GeneSettings")}
    properties = found["properties"]
    properties[key] = {"const": name, "description": found.get("description", name)}
    found["required"] = sorted({key, *found.get("required", ())})
    if "warm" in properties:
        properties["warm"]["anyOf"] = [{"$ref": "#/$defs/Strategy"}, {"type": "null"}]
    if "initial" in properties:
        listed = {part: properties["initial"].pop(part) for part in ("type", "items") if part in properties["initial"]}
        properties["initial"]["anyOf"] = [TEXT, listed]
    sections[name] = found
    return {"$ref": f"#/$defs/{name}"}


def _one_or_more(one: Schema, least: int = 0) -> list[Schema]:
    return [one, {"type": "array", "items": one, **({"minItems": least} if least else {})}]


def _by_name(budgets: Schema) -> Schema:
    """The section `budgets`, by the names of costs and scores, and of one's own, which have a colon."""
    return {
        "type": "object",
        "properties": dict.fromkeys((*COSTS, *SCORES, *EXPONENTIALS), budgets["additionalProperties"]),
        "patternProperties": {":": budgets["additionalProperties"]},
        "additionalProperties": False,
    }
