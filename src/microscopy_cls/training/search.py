"""A small search over a declared space. The only home of Optuna.

Each trial's values follow from the trials before it and from the seed alone: the study is built anew for every one, so
a search that was stopped goes on as if it had not been, and nothing of Optuna's own state has to be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from microscopy_cls.config.search import Dimension, Search, Values
from microscopy_cls.dataset.augment import item_seed
from microscopy_cls.errors import MissingDependencyError
from microscopy_cls.training.trials import Trial

if TYPE_CHECKING:
    import optuna  # noqa: TID251  this is its home

IsHopeless = Callable[[list[float]], bool]
Attempt = Callable[[int, Values, IsHopeless], Trial]

NUM_BEFORE_PRUNING = 4  # complete trials whose median means something


def require_optuna() -> None:
    """Say how to get it.

    Raises:
        MissingDependencyError: Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise MissingDependencyError("optuna", extra="search", purpose="A search (switched off with search.trials: 0)")


def next_trial(
    settings: Search, start: Values, num_epochs: int, seed: int, done: list[Trial], attempt: Attempt
) -> Trial:
    """Choose the next values and try them.

    Args:
        start: the configured values, tried first where the space holds them: the search then ends no worse than it
            began.
        num_epochs: of a trial; the first half of them is never pruned, nor is anything where epochs are searched.
        seed: of this fold's search.
        done: the trials so far, in their order.
        attempt: trains with values, and gives up when its curve so far is hopeless.
    """
    study = _study(settings, num_epochs, item_seed(seed, len(done), "search"), done)
    space = {key: _distribution(dimension) for key, dimension in settings.space.items()}
    if not done and all(dimension.holds(start[key]) for key, dimension in settings.space.items()):
        study.enqueue_trial(start)
    trial = study.ask(space)
    values = dict(trial.params)
    for earlier in done:
        if earlier.values == values:  # few choices come again; the same seed would give the same result
            return replace(earlier, seconds=0.0)
    reported = 0

    def is_hopeless(curve: list[float]) -> bool:
        nonlocal reported
        for step in range(reported, len(curve)):
            trial.report(curve[step], step)
        reported = len(curve)
        return bool(trial.should_prune())

    return attempt(len(done), values, is_hopeless)


def _study(settings: Search, num_epochs: int, seed: int, done: list[Trial]) -> optuna.Study:
    import optuna  # noqa: TID251

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what is to be told is told by the fold
    num_random = min(10, max(3, settings.trials // 3))  # Optuna's ten would leave nothing to a small search
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if "finetune.epochs" not in settings.space:  # curves of other lengths do not compare
        # The cosine schedule lets fast rates catch up late, so the first half says little.
        pruner = optuna.pruners.MedianPruner(NUM_BEFORE_PRUNING, n_warmup_steps=max(1, num_epochs // 2))
    study = optuna.create_study(
        direction="maximize" if settings.score == "f1_macro" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=num_random),
        pruner=pruner,
    )
    space = {key: _distribution(dimension) for key, dimension in settings.space.items()}
    for trial in done:
        study.add_trial(_frozen(trial, space))
    return study


def _frozen(trial: Trial, space: dict[str, optuna.distributions.BaseDistribution]) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial  # noqa: TID251

    # Optuna takes a pruned trial without a curve for the worst of all, which is what divergence is.
    complete, diverged = trial.state == "complete", trial.state == "diverged"
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=trial.score,
        params=trial.values,
        distributions=space,
        intermediate_values={} if diverged else dict(enumerate(trial.curve)),
    )


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import (  # noqa: TID251
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=dimension.log)
    assert low is not None
    assert high is not None
    return FloatDistribution(low, high, log=dimension.log)
