"""An Optuna study that is kept in a database, taken up where a killed sweep has left it.

Optuna alone would run all its trials again beside the old ones, number them from 0, leave those that were under way
under way for ever, and let a sampler with a seed draw the same first trials twice.
"""

from __future__ import annotations

from typing import Any

STUDY_NAME = "sweep"
_CUT_SHORT = "cut_short"


def go_on_with_study(sweeper: Any) -> None:
    """Counts what is done, puts what was under way first in line again, under its old number, and asks for the rest.

    Args:
        sweeper: the implementation of Hydra's Optuna sweeper, before it is asked to sweep. Without a storage there is
            nothing to take up: a sampler with a seed draws the same trials, and those that are done are known by their
            directories.
    """
    if sweeper.storage is None:
        return
    import optuna  # type: ignore[import-not-found, unused-ignore]

    if sweeper.study_name is None:
        # a study that nobody has named gets a random name, and is not found again
        sweeper.study_name = STUDY_NAME
    try:
        study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:
        return
    states = optuna.trial.TrialState
    under_way = [t for t in study.trials if t.state == states.RUNNING]
    in_line = [t for t in study.trials if t.state == states.WAITING]
    told = [t for t in study.trials if t.state.is_finished() and not t.user_attrs.get(_CUT_SHORT)]
    for trial in [*under_way, *in_line]:
        study._storage.set_trial_user_attr(trial._trial_id, _CUT_SHORT, True)
        params = trial.params or trial.system_attrs.get("fixed_params") or {}
        if trial.state == states.WAITING:
            study._storage.set_trial_state(trial._trial_id, states.RUNNING)
        study.tell(trial.number, state=states.FAIL)
        if params:
            study.enqueue_trial(params)
    sweeper.job_idx = len(told)
    asked = sweeper.n_trials
    sweeper.n_trials = max(asked - len(told), 0)
    if told and hasattr(sweeper.sampler, "reseed_rng"):
        sweeper.sampler.reseed_rng()
    if told or under_way:
        print(f"The study has {len(told)} trials of {asked}; {sweeper.n_trials} are left.", flush=True)
        if not sweeper.n_trials:
            print(f"For more of them: hydra.sweeper.n_trials={2 * asked}", flush=True)
