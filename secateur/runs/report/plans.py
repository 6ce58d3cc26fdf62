"""The neutral plans of a run, from its comparison."""

from ...plans.layers import layers, outside_levels, residual
from ...plans.plan import MeasuredLatency, ModelIdentity, Plan, TextIdentity, WidthIdentity
from ...space.families.table import saved_dtype
from ...space.space import Space
from ..record.facts import BASE, CONFIG, IMPORTANCE, MODEL, ORDERS, TEXTS
from ..record.folder import RunFolder
from .rows import Row
from .summary import Summary


def make_plan(folder: RunFolder, space: Space, summary: Summary, row: Row) -> Plan:
    """The neutral plan of one row of the comparison."""
    recipe, journal = folder.recipe, folder.journal
    orders, below = journal.of(ORDERS), journal.of(BASE)
    features = space.features
    widths = WidthIdentity(**recipe.widths.model_dump()) if orders is not None else None
    if widths is not None and "stream" not in features:
        widths = widths.model_copy(update={"hidden": None})
    states = space.states(row.genome)
    return Plan(
        name=row.name,
        model=ModelIdentity(
            path=recipe.model.path,
            family=space.anatomy.family,
            digest=journal.known(MODEL),
            dtype=saved_dtype(recipe.model.saved_dtype, journal.of(CONFIG) or {}),
            layers=len(space.anatomy.blocks),
        ),
        pruner=recipe.pruner if "zeros" in features else None,
        widths=widths,
        hidden=residual(space.anatomy, states, orders),
        layers=layers(space.anatomy, states, orders),
        outside=outside_levels(space.anatomy, states),
        costs=dict(row.costs),
        dense_costs=(space.costs(space.dense) if space.base is None else space.dense_costs).to_json(),
        latency=_measured_latency(folder, row),
        latency_estimate=space.latency is not None and space.latency.estimate,
        budgets={budget.cost: budget.limit for budget in space.budgets},
        scores={text: dict(scores) for text, scores in row.scores.items()},
        compared={
            other.name: {text: dict(scores) for text, scores in other.scores.items()}
            for other in summary.rows
            if other.name != row.name and other.scores
        },
        texts={title: TextIdentity.model_validate(values) for title, values in journal.known(TEXTS).items()},
        genome=space.to_json(row.genome),
        importance=journal.of(IMPORTANCE) or "",
        base=Plan.model_validate(below) if below is not None else None,
        seed=recipe.seed,
        recipe_digest=recipe.digest(),
        recipe=recipe.model_dump(mode="json"),
    )


def _measured_latency(folder: RunFolder, row: Row) -> MeasuredLatency | None:
    measured, settings = row.measured, folder.recipe.latency
    if measured is None or settings is None:
        return None
    return MeasuredLatency(
        device=measured.device,
        batch=settings.batch,
        prompt=settings.prefill,
        tokens=settings.decode,
        prefill=measured.times.prefill,
        decode=measured.times.decode,
        ratios={name: (ratio.median, ratio.spread) for name, ratio in measured.ratios.items()},
    )
