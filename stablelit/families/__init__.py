"""Five families of LightningModules that put the suite to work."""
