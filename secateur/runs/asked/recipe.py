"""What was asked: one YAML file, read into frozen values, refused early when anything in it is wrong."""

import hashlib
import json
import re
from collections.abc import Mapping

import yaml
from pydantic import model_validator

from ...files import is_name
from ...search.strategies.table import STRATEGIES
from ...search.warm import is_plan_file
from ...space.costs import LATENCIES
from ...space.errors import SecateurError, suggest
from ...space.limits import of_costs, parse_limits
from ...space.names import PREPARE
from ...space.objective import Objective, is_own, parse_objectives
from .baselines import baselines
from .fields import Fields
from .settings import (
    TRAINING,
)

OF_ALL_KINDS: Mapping[str, object] = {"layers": "all", "levels": [], "multiple_of": None, "per": "linear", "group": 1}
"""Settings that genes of every kind once had; in recipes that runs and plans keep, and in what names a recipe."""
ASIDE = ("workers", "log")
"""Settings that results do not depend on, so that a run that goes on may have others."""


class Recipe(Fields):
    """Everything that determines a run."""

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.baselines != "all":
            for name in self.baselines:
                if name not in baselines() and not is_plan_file(name):
                    raise ValueError(f"baselines: unknown '{name}'; {suggest(name, baselines())}")
            self._check_peers()
        titles = [text.title for text in self.held_out]
        if TRAINING in titles:
            raise ValueError("held_out: 'training' is the name of the text that is trained on; set 'name' to another")
        if PREPARE in titles:
            raise ValueError(
                "held_out: 'prepare' is the name of the text that levels are made from; set another 'name'"
            )
        if "calibration" in titles:
            raise ValueError("held_out: 'calibration' is the name of the calibration text; set 'name' to another")
        if any(text.sequences < 2 for text in self.held_out):
            raise ValueError("held_out: an interval needs at least 2 sequences of each text")
        trackers = [one.to for one in self.log]
        if len(set(trackers)) != len(trackers):
            raise ValueError("log: a tracker stands there twice")
        if len(set(titles)) != len(titles):
            raise ValueError("held_out: two texts have the same name; set 'name' on one of them")
        try:
            parse_limits(self.budgets)
            if not self.smallest:
                parse_objectives((self.score,), "score")
        except SecateurError as error:
            raise ValueError(str(error)) from None
        if self.importance is not None and ("bits" not in self.features() or self.quantizer != "importance"):
            raise ValueError("importance: is for bits genes with quantizer: importance; leave it out")
        self._check_limits()
        self._check_validation()
        self._check_draws()
        features = self.features()
        if "stream" in features and (streams := self.of_streams(self.scores)) and not self.objectives:
            raise ValueError(
                f"score: {streams[0]} needs residual streams of one width, and the recipe has a hidden gene; use kl"
            )
        rotated = "stream" in features and self.widths.hidden == "pca"
        if self.pruner in ("sparsegpt", "admm") and "zeros" in features and rotated:
            raise ValueError(
                f"pruner: {self.pruner} updates weights of an unrotated residual stream; use wanda, ria or magnitude, "
                "or widths: {hidden: magnitude}"
            )
        effort = self.effort
        unlimited = effort.tokens is None and effort.evaluations is None and effort.minutes is None
        if unlimited and not self.strategy.ends:
            raise ValueError(
                f"effort: {self.strategy.name} search has no end of its own; give tokens, evaluations or minutes"
            )
        self._check_objectives()
        self._check_latency()
        self._check_training()
        return self

    def _check_peers(self) -> None:
        """Raises ValueError for baselines from files whose names cannot be those of plans."""
        for title, path in self.peers.items():
            taken = (
                title in (*baselines(), "found", "untrained", "dense", "base", "knee")
                or title.startswith("front-")
                or title.isdigit()
            )
            taken = taken or re.fullmatch(rf"({'|'.join(map(re.escape, baselines()))})-\d+", title) is not None
            if taken or not is_name(title):
                raise ValueError(f"baselines: '{path}': '{title[:100]}' cannot be a plan's name; rename the file")
        files = [name for name in self.baselines if is_plan_file(name)]
        if len(files) > len(self.peers):
            raise ValueError("baselines: two files have the same name but for their folder or ending; rename one")

    def _check_draws(self) -> None:
        """Raises ValueError for draws that cannot be compared, or that are not several."""
        if self.seeds is None:
            return
        if self.objectives or self.smallest:
            other = "objectives" if self.objectives else f"score: {self.score}"
            raise ValueError(
                f"seeds: several draws are of a search for the plan of least score; leave it or {other} out"
            )
        if len(set(self.draws)) < len(self.draws):
            raise ValueError("seeds: a seed stands there twice")
        if max(self.draws) >= 2**32:
            raise ValueError(f"seeds: the last of {len(self.draws)} from seed {self.seed} is too large; lower 'seed'")
        if not self.held_out:
            raise ValueError("seeds: draws are compared on held-out text, and the recipe names none")

    def _check_validation(self) -> None:
        """Raises ValueError where there is nothing to be chosen on text that is kept, or too little of that."""
        if self.validation is None:
            return
        for section, there in (("objectives", bool(self.objectives)), ("training", self.training is not None)):
            if there:
                raise ValueError(f"validation: is for the answer of a search for one plan; leave it or {section} out")
        if self.smallest:
            raise ValueError("validation: the smallest plan is chosen on all of the calibration text; leave it out")
        if self.validated < 2 or self.searched < 1:
            raise ValueError(
                f"validation: {self.validation.share:g} of {self.calibration.sequences} sequences are too few; raise "
                "calibration.sequences"
            )

    def _check_limits(self) -> None:
        """Raises ValueError for budgets on scores that leave nothing to be searched."""
        if self.smallest and not self.limits:
            raise ValueError(
                f"score: {self.score} alone is least for the smallest plan; say what has to be kept, such as "
                "budgets: {kl: <= 0.3}"
            )
        if self.limits and not self.objectives and not self.smallest and not STRATEGIES[self.strategy.name].heeds:
            others = ", ".join(name for name, entry in STRATEGIES.items() if entry.plans and entry.heeds)
            raise ValueError(
                f"budgets: {self.strategy.name} goes by the loss alone and heeds no budget on a score; take one of "
                f"{others}"
            )
        for limit in self.limits:
            if self.base is not None and limit.relative:
                raise ValueError(
                    f"budgets: {limit.objective.name}: shares are of the dense model, which is not scored where there "
                    "is a base; write a number"
                )
            if limit.objective.score == Objective(self.score).score and not self.objectives:
                raise ValueError(
                    f"budgets: {limit.objective.name} is what the search minimises; limit another score, or write "
                    "score: parameters for the smallest plan that keeps it"
                )
        if self.limits and not self.smallest and not self.objectives and not of_costs(self.budgets):
            raise ValueError(
                f"budgets: with scores alone the dense model has the least {self.score}; limit a cost too, or write "
                "score: parameters for the smallest plan that keeps them"
            )

    def _check_objectives(self) -> None:
        """Raises ValueError for objectives that are none, or that the strategy cannot search for."""
        try:
            objectives = parse_objectives(self.objectives)
        except SecateurError as error:
            raise ValueError(str(error)) from None
        if len(objectives) == 1:
            own = not objectives[0].is_cost
            raise ValueError(
                "objectives: one alone is no front; add a cost"
                + (f", or write score: {objectives[0].name}" if own else "")
            )
        if objectives and self.score != type(self).model_fields["score"].default:
            raise ValueError("score: objectives say what is scored; leave it out")
        costs = any(objective.is_cost for objective in objectives) or of_costs(self.budgets)
        if len(objectives) > 1 and not costs:
            raise ValueError("objectives: the dense model is best in all of these; add a cost such as parameters")
        streams = self.of_streams(self.scores) if objectives else []
        if "stream" in self.features() and streams:
            raise ValueError(f"objectives: {' and '.join(streams)} need residual streams of one width; use kl")
        unknown = sorted(set(self.reference) - set(self.objectives))
        if unknown:
            raise ValueError(
                f"reference: '{unknown[0]}' is no objective of this recipe; {suggest(unknown[0], self.objectives)}"
            )
        entry = STRATEGIES[self.strategy.name]
        others = ", ".join(name for name, other in STRATEGIES.items() if other.fronts)
        if objectives and not entry.fronts:
            raise ValueError(f"objectives: {self.strategy.name} minimises one score; for a front use one of {others}")
        if self.smallest and not entry.fronts:
            raise ValueError(
                f"score: {self.score} is a cost, and {self.strategy.name} minimises scores; take one of {others}"
            )
        if not objectives and not self.smallest and not entry.plans:
            raise ValueError(
                f"strategy: {self.strategy.name} searches for a front; write objectives: [kl, parameters] or the like"
            )

    def _check_latency(self) -> None:
        """Raises ValueError for a latency that nothing measures, or that is measured for nothing."""
        wanted = [name for name in (*self.objectives, *self.budgets, self.score) if name in LATENCIES]
        if wanted and self.latency is None:
            raise ValueError(
                f"latency: '{wanted[0]}' is wanted, but no device is named; write latency: {{device: cpu}}, or "
                "{device: estimate, gflops: 50, bandwidth: 20}"
            )
        if self.latency is None:
            return
        if not wanted:
            raise ValueError(
                "latency: a device is named, but nothing is said about latency; add it to 'objectives' or 'budgets'"
            )
        if self.features() <= {"zeros", "bits"} and wanted:
            raise ValueError(
                f"latency: '{wanted[0]}' of a table does not change with zeros in dense matrices or with fewer bits, "
                "and the recipe has no other genes; add genes that narrow or drop"
            )
        device = self.model.device.split(":")[0]
        if self.latency.device not in ("llama.cpp", "estimate", device):
            raise ValueError(
                f"latency.device: {self.latency.device}, but the model is on {self.model.device}; set model.device "
                f"to {self.latency.device} too"
            )
        if self.latency.device == "llama.cpp" and device != "cpu":
            raise ValueError("latency.device: llama.cpp is searched on the table of the CPU; set model.device to cpu")
        if "decode" in wanted and not self.latency.decode:
            raise ValueError("latency.decode: 0, but decoding is an objective or has a budget; set how many tokens")

    def _check_training(self) -> None:
        """Raises ValueError for training that is missing, or that would train for nothing."""
        name, own_stages = self.strategy.name, self.strategy.trained()
        if self.training is None:
            if own_stages:
                raise ValueError(f"training: {name} trains its candidates; say how, such as training: {{what: lora}}")
            return
        if self.objectives:
            raise ValueError("training: candidates for one budget are trained, a front's are not; leave it out")
        if self.smallest:
            raise ValueError(f"score: {self.score} is a cost, for which candidates are not trained; leave training out")
        if untrained := [*self.of_streams(self.scores), *filter(is_own, self.scores)]:
            raise ValueError(f"score: {untrained[0]} is none that candidates are trained with; to train, use kl")
        if "bits" in self.features() and self.quantizer != "nearest" and self.training.what != "norms":
            raise ValueError(
                "training: weights of few bits are rounded to the nearest at every step; set quantizer: nearest, or "
                "train what: norms, which leaves them as they are"
            )
        if own_stages and self.training.selects:
            raise ValueError(f"training: {name} has its own stages; leave 'candidates', 'stages' and 'sequences' out")
        stages = len(own_stages or self.training.stages)
        for key, value in (("optimiser", self.training.optimiser), ("learning_rate", self.training.learning_rate)):
            if isinstance(value, tuple) and len(value) != stages:
                raise ValueError(f"training.{key}: {len(value)} values for {stages} stages; write one, or one for each")
        if not own_stages and self.training.sequences > self.calibration.sequences:
            raise ValueError(
                f"training.sequences: {self.training.sequences}, but calibration has {self.calibration.sequences}"
            )

    def digest(self) -> str:
        """Names the recipe; settings that it does not use leave the name as it was before they existed."""
        values = self.model_dump(mode="json", exclude={*ASIDE})
        unused = {"tasks"} if not any(name.startswith("lm-eval:") for name in self.scores) else set()
        for name, plain in (("code", False), ("timeout", None)):
            if values["tasks"][name] == plain:
                del values["tasks"][name]
        unused |= {"latency"} if self.latency is None else set()
        later = ("base", "importance", "prepare", "validation", "seeds", "held_out_seed")
        unused |= {name for name in later if getattr(self, name) is None}
        unused |= {"training"} if self.training is None else set()
        unused |= {"target"} if self.target is None else set()
        unused |= {"objectives", "reference", "front"} if not self.objectives else set()
        values = {name: value for name, value in values.items() if name not in unused}
        values["genes"] = [{**OF_ALL_KINDS, **gene} for gene in values["genes"]]
        for gene in values["genes"]:
            if gene.get("of") == "layers":
                del gene["of"]
        texts = [values["calibration"], *values["held_out"], *([values["prepare"]] if self.prepare is not None else [])]
        stages = values["training"]["stages"] if self.training is not None else []
        new = [(values["strategy"], "race"), *((text, "positions") for text in texts), *((s, "steps") for s in stages)]
        new += [(values["strategy"], "warm")] if self.strategy.trained() else []
        texts += [values["training"]["text"]] if self.training is not None and self.training.text is not None else []
        new += [(text, "config") for text in texts]
        for section, name in new:
            if section.get(name, 0) is None:
                del section[name]
        for text in texts:
            if not text["prefix"]:
                del text["prefix"]
            if not text.get("mixture"):
                text.pop("mixture", None)
        if self.model.saved_dtype == self.model.dtype:
            del values["model"]["saved_dtype"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The recipe with every setting, as a run keeps it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
