"""The neutral plan: JSON with a schema, ours."""

from ...space.anatomy import Anatomy
from ..changes import Changes, changes_of
from ..features import ALL, Subject
from ..plan import read_plan
from .form import Content, Files, Format


def write(subject: Subject) -> Files:
    """The plan, as it was found or read."""
    assert subject.plan is not None
    return {"plan.json": subject.plan.to_text()}


def reads(content: Content) -> bool:
    """JSON that says it is one of our plans."""
    return isinstance(content.values, dict) and content.values.get("format") == "secateur-plan"


def read(content: Content, anatomy: Anatomy) -> Changes:
    """What the plan makes of each block."""
    return changes_of(anatomy, read_plan(content.path).states(anatomy))


PLAN = Format("plan", "the neutral plan, JSON with a schema", ALL, write, reads=reads, read=read)
