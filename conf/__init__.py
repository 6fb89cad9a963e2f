"""Configuration of stablelit: a package, for Hydra's `pkg://stablelit.conf` asks for one."""
