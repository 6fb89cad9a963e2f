"""What the doors share: compose, check, build, run directory, resume, sweeps. Only here is Hydra imported."""
