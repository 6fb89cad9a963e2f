from __future__ import annotations

from types import SimpleNamespace

import torch

from stablelit.callbacks._device_work import stream_has_work


def test_the_stream_is_asked_and_never_waited_for(monkeypatch):
    answers = iter([True, False])
    stream = SimpleNamespace(query=lambda: next(answers))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    ask = stream_has_work(torch.device("cuda:0"))
    assert [ask(), ask()] == [False, True]
    assert stream_has_work(torch.device("cpu"))() is None
