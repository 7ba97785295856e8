"""A cross-validated model sweep on scikit-learn's handwritten digits, in which things go wrong.

    wonder run wonder_ray/examples/sweep.py --input '{"folds": 3, "threshold": 0.988}'

::

    plan --each configuration--> choose --each fold--> evaluate ==folds==> summarize ==configurations==> rank
                                    ^                                                                    |
                                    |                                             good enough? -- publish -> report
                                    +--each wider configuration-- widen -- else, once ------------------'
                                                                           else ---------------------> report

What it shows: nested fan-outs whose branches have their own context, `max_concurrency` over configurations, joins with merges, a
choice, a loop with a bound, retries of one error type, and failures that are tolerated: two configurations of the first grid
cannot work, and scikit-learn says so with a `ValueError`. Their folds fail without a retry, their groups with them, and the
sweep goes on, since a quarter of the configurations may fail.

**Preemption is simulated**, so that retries can be seen on any machine: of the evaluations, one in `preempt_one_in` raises
`Preempted` on its first attempt. Which ones follows from their token ids, so it is the same in every run. 0 switches it off.

The data (1,797 images of 8 x 8 pixels) come with scikit-learn. A fifth of them is held out and seen by `publish` only.
"""

from __future__ import annotations

from functools import cache
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

import wonder_ray as wonder

if TYPE_CHECKING:
    from collections.abc import Iterable

Config = dict[str, Any]
"""`{"model": <a key of _ESTIMATORS>, "params": {...}}`"""

HELD_OUT: Final = 0.2
SEED: Final = 0
CONFUSIONS_SHOWN: Final = 3


class SweepInput(BaseModel):
    """What a run may be given; every field has a default."""

    model_config = ConfigDict(extra="forbid")

    folds: int = Field(3, ge=2, le=10)
    threshold: float = Field(0.988, ge=0, le=1, description="the mean accuracy at which the best model is published")
    preempt_one_in: int = Field(5, ge=0, description="one in so many evaluations loses its first attempt; 0: none")
    quick: bool = Field(False, description="a smaller grid")


GRID: Final[tuple[Config, ...]] = (
    {"model": "logistic", "params": {"C": 0.01}},
    {"model": "logistic", "params": {"C": 0.1}},
    {"model": "logistic", "params": {"C": 1.0}},
    {"model": "neighbors", "params": {"n_neighbors": 1}},
    {"model": "neighbors", "params": {"n_neighbors": 5}},
    {"model": "neighbors", "params": {"n_neighbors": 25}},
    {"model": "neighbors", "params": {"n_neighbors": 5000}},  # more than there are images: a ValueError
    {"model": "linear_svm", "params": {"C": 0.1}},
    {"model": "linear_svm", "params": {"penalty": "l1", "loss": "hinge"}},  # no such combination: a ValueError
    {"model": "forest", "params": {"n_estimators": 50}},
    {"model": "forest", "params": {"n_estimators": 200}},
    {"model": "svm", "params": {"C": 1.0, "gamma": 0.01}},
)
WIDER_GRID: Final[tuple[Config, ...]] = (
    {"model": "svm", "params": {"C": 1.0, "gamma": 0.1}},
    {"model": "svm", "params": {"C": 1.0, "gamma": 0.3}},
    {"model": "svm", "params": {"C": 10.0, "gamma": 0.1}},
    {"model": "svm", "params": {"C": 10.0, "gamma": 0.3}},
    {"model": "svm", "params": {"C": 10.0, "kernel": "poly", "degree": 3}},
    {"model": "neighbors", "params": {"n_neighbors": 3}},
)
QUICK_GRID: Final = (GRID[1], GRID[3], GRID[6], GRID[7], GRID[11])
QUICK_WIDER_GRID: Final = WIDER_GRID[1:3]

_ESTIMATORS: Final = {
    "logistic": ("sklearn.linear_model", "LogisticRegression", {"max_iter": 500}),
    "neighbors": ("sklearn.neighbors", "KNeighborsClassifier", {}),
    "linear_svm": ("sklearn.svm", "LinearSVC", {}),
    "forest": ("sklearn.ensemble", "RandomForestClassifier", {"random_state": SEED}),
    "svm": ("sklearn.svm", "SVC", {}),
}


# --- actions ---------------------------------------------------------------------------------------------------------


def plan(settings: dict[str, Any] | None) -> dict[str, Any]:
    """The settings with their defaults, and the configurations to try first."""
    given = SweepInput.model_validate(settings or {})
    return given.model_dump() | {"grid": list(QUICK_GRID if given.quick else GRID)}


def evaluate(config: Config, fold: int, folds: int, preempt_one_in: int = 0) -> dict[str, Any]:
    """Train on all folds but one, and test on that one.

    Raises:
        ActionError: `Preempted`, where preemption is simulated.
        ValueError: scikit-learn cannot work with these parameters.
    """
    from sklearn.model_selection import StratifiedKFold

    _maybe_preempt(preempt_one_in)
    images, digits, _, _ = _data()
    splits = StratifiedKFold(folds, shuffle=True, random_state=SEED).split(images, digits)
    train, test = list(splits)[fold]
    model = _estimator(config).fit(images[train], digits[train])
    found = model.predict(images[test])
    return {"accuracy": float((found == digits[test]).mean()), "confusions": _confusions(digits[test], found)}


def summarize(config: Config, folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The folds of one configuration as one score."""
    accuracies = [fold["accuracy"] for fold in folds]
    return {
        "name": name_of(config),
        "config": config,
        "mean": round(fmean(accuracies), 4),
        "std": round(pstdev(accuracies), 4),
        "folds": len(folds),
        "confusions": _added(fold["confusions"] for fold in folds),
    }


def rank(scores: list[dict[str, Any]], tried: list[Config], before: dict[str, Any] | None) -> dict[str, Any]:
    """All scores so far, the best first, and the configurations that gave none."""
    known = before or {"scores": [], "failed": []}
    scored = {score["name"] for score in scores}
    ranked = sorted([*known["scores"], *scores], key=lambda score: (-score["mean"], score["name"]))
    failed = [*known["failed"], *(name for config in tried if (name := name_of(config)) not in scored)]
    return {
        "scores": ranked,
        "failed": failed,
        "best": ranked[0] if ranked else None,
        "mean": ranked[0]["mean"] if ranked else 0.0,
    }


def widen(quick: bool) -> list[Config]:  # noqa: FBT001 - called with the names of its parameters
    """More configurations, where the first ones were not good enough."""
    return list(QUICK_WIDER_GRID if quick else WIDER_GRID)


def publish(config: Config) -> dict[str, Any]:
    """Train the winner on all that was not held out, and test it on what was."""
    images, digits, held_out_images, held_out_digits = _data()
    found = _estimator(config).fit(images, digits).predict(held_out_images)
    return {
        "accuracy": round(float((found == held_out_digits).mean()), 4),
        "images": len(held_out_digits),
        "confusions": _confusions(held_out_digits, found),
    }


def report(ranking: dict[str, Any], threshold: float, published: dict[str, Any] | None = None) -> dict[str, Any]:
    """What people want to know of a sweep."""
    best = ranking["best"]
    told = published or best or {"confusions": []}
    return {
        "winner": best and best["name"],
        "published": published is not None,
        "threshold": threshold,
        "mean": best and best["mean"],
        "held_out_accuracy": published and published["accuracy"],
        "confused": [f"{true} read as {found}: {n}x" for true, found, n in told["confusions"][:CONFUSIONS_SHOWN]],
        "configurations": [{key: score[key] for key in ("name", "mean", "std")} for score in ranking["scores"]],
        "failed": ranking["failed"],
    }


def name_of(config: Config) -> str:
    """What people call a configuration.

    >>> name_of({"model": "svm", "params": {"C": 1.0, "gamma": 0.1}})
    'svm C=1.0 gamma=0.1'
    """
    return " ".join([config["model"], *(f"{name}={value}" for name, value in config["params"].items())])


def _maybe_preempt(one_in: int) -> None:
    task = wonder.current()
    if one_in and task.attempt == 1 and int(task.token_id.rpartition("_")[2], 16) % one_in == 0:
        raise wonder.ActionError("Preempted", "the machine was taken away (simulated: see `preempt_one_in`)")


@cache
def _data() -> tuple[Any, Any, Any, Any]:
    """Images and digits to learn from, and those held out; read once per process."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    learn, held_out, learn_digits, held_out_digits = train_test_split(
        images / 16, digits, test_size=HELD_OUT, stratify=digits, random_state=SEED
    )
    return learn, learn_digits, held_out, held_out_digits


def _estimator(config: Config) -> Any:
    from importlib import import_module

    module, name, defaults = _ESTIMATORS[config["model"]]
    return getattr(import_module(module), name)(**defaults | config["params"])


def _confusions(true: Any, found: Any) -> list[list[int]]:
    """`[digit, read as, times]`, the most frequent first."""
    return _added([[[int(t), int(f), 1] for t, f in zip(true, found, strict=True) if t != f]])


def _added(lists: Iterable[list[list[int]]]) -> list[list[int]]:
    counts: dict[tuple[int, int], int] = {}
    for confusions in lists:
        for true, found, times in confusions:
            counts[true, found] = counts.get((true, found), 0) + times
    return sorted(([true, found, times] for (true, found), times in counts.items()), key=lambda entry: (-entry[2], entry))


# --- the workflow ----------------------------------------------------------------------------------------------------


def workflow() -> wonder.Workflow:
    """The sweep."""
    flow = wonder.Workflow(
        "digits-sweep",
        description="Which classifier reads handwritten digits best?",
        input={"anyOf": [{"type": "null"}, SweepInput.model_json_schema()]},
        output={"report": "state.report"},
    )
    flow.node("plan", plan, input={"settings": "input"}, output={"state.plan": "result", "state.grid": "result.grid"})
    flow.compute("choose")
    preempted = wonder.Retry(max_attempts=3, backoff_s=0.2, retry_on=("Preempted",))
    given = {"config": "config", "fold": "index", "folds": "state.plan.folds", "preempt_one_in": "state.plan.preempt_one_in"}
    flow.node("evaluate", evaluate, input=given, retry=preempted, timeout_s=60)
    flow.node("summarize", summarize, input={"config": "config", "folds": "state.folds"})
    so_far = {"scores": "state.scores", "tried": "state.grid", "before": "has(state.ranking) ? state.ranking : null"}
    flow.node("rank", rank, input=so_far, output={"state.ranking": "result"})
    flow.node("widen", widen, input={"quick": "state.plan.quick"}, output={"state.grid": "result"})
    flow.node("publish", publish, input={"config": "state.ranking.best.config"}, output={"state.published": "result"})
    told = {"ranking": "state.ranking", "threshold": "state.plan.threshold"}
    told["published"] = "has(state.published) ? state.published : null"
    flow.node("report", report, input=told, output={"state.report": "result"})

    each: Any = {"item": "config", "group": "configurations", "max_concurrency": 8, "tolerated_failures": 0.25}
    flow.transition(["plan", "widen"], "choose", foreach="state.grid", **each)
    flow.transition("choose", "evaluate", spawn_count="state.plan.folds", group="folds")
    flow.transition("evaluate", "summarize", join=wonder.All("folds", merge=wonder.Append("state.folds")))
    flow.transition("summarize", "rank", join=wonder.All("configurations", merge=wonder.Append("state.scores")))
    flow.transition("rank", "publish", when="state.ranking.mean >= state.plan.threshold")
    flow.transition("rank", "widen", priority=1, max_iterations=1)
    flow.transition("rank", "report", priority=2)
    flow.transition("publish", "report")
    return flow


flow = workflow()
