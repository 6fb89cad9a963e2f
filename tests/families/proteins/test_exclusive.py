from __future__ import annotations

import threading

from stablelit.families.proteins.exclusive import alone


def test_a_second_one_waits_and_says_so(tmp_path, capsys):
    order, inside = [], threading.Event()

    def second():
        inside.wait()
        with alone(tmp_path / "work"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with alone(tmp_path / "work"):
        inside.set()
        while "waiting" not in capsys.readouterr().out:
            pass
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_nothing_is_left_behind_also_after_an_error(tmp_path):
    try:
        with alone(tmp_path / "deep" / "work"):
            raise KeyError
    except KeyError:
        pass
    assert list((tmp_path / "deep").iterdir()) == []
