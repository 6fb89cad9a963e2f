"""Sweeps: all jobs are checked before the first starts, one that fails ends no other, and what is done is kept.

plan.py        which jobs there will be; for a sweeper that chooses as it goes, the edges of what it may choose
preflight.py   every job composed and checked; all problems told at once
callback.py    the place where Hydra asks us: before the first job
swept_job.py   around each job: done already, to be gone on with, failed
launching.py   around Hydra's launchers: a killed worker, a study that goes on
results.py     what the jobs came to: summary.csv; `ranking.py` the table, `picture.py` summary.png
session.py     from the command line to the exit code
"""

from stablelit.run.sweep.job import end_the_sweep_if_asked, refuse_subprocess_ddp, sweep_job_directory

__all__ = ["end_the_sweep_if_asked", "refuse_subprocess_ddp", "sweep_job_directory"]
