"""Prepared."""


def prepared_once(path, cache_dir, policies, say):
    raise NotImplementedError
