from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.sketches.readers import open_source
from stablelit.families.sketches.readers.source_files import Unreadable
from stablelit.families.sketches.readers.svg import matrix_of, strokes_of_svg

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 800 800">'
W3C = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x.dtd">'
)


def strokes(inside, before=""):
    return strokes_of_svg(f"{before}{HEAD}{inside}</svg>".encode(), "here/a.svg")[0]


def rounded(inside):
    return [np.round(stroke, 6).tolist() for stroke in strokes(inside)]


def test_shapes_are_strokes_in_the_order_of_the_file():
    inside = """<line x1="1" y1="2" x2="3px" y2="4"/><polyline points="0,0 1,1 2,0"/>
        <polygon points="0 0 1 0 1 1"/><rect x="1" y="2" width="3" height="4"/><path d="M5 5h1"/>"""
    assert rounded(inside) == [
        [[1, 2], [3, 4]],
        [[0, 0], [1, 1], [2, 0]],
        [[0, 0], [1, 0], [1, 1], [0, 0]],
        [[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]],
        [[5, 5], [6, 5]],
    ]


def test_circles_and_ellipses_are_closed_and_round():
    circle, ellipse = strokes('<circle cx="1" cy="2" r="3"/><ellipse cx="1" cy="2" rx="4" ry="2"/>')
    assert np.hypot(*(circle - [1, 2]).T) == pytest.approx(3.0)
    assert np.hypot(*((ellipse - [1, 2]) / [4, 2]).T) == pytest.approx(1.0)
    assert circle[0] == pytest.approx(circle[-1])
    assert len(circle) == 65


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("translate(10)", (12, 1)),
        ("translate(10,20)", (12, 21)),
        ("scale(3)", (6, 3)),
        ("scale(3 -1)", (6, -1)),
        ("rotate(90)", (-1, 2)),
        ("rotate(90,1,1)", (1, 2)),
        ("matrix(1 2 3 4 5 6)", (1 * 2 + 3 * 1 + 5, 2 * 2 + 4 * 1 + 6)),
        ("skewX(45)", (3, 1)),
        ("skewY(45)", (2, 3)),
        ("translate(10,0) scale(2)", (14, 2)),
        ("scale(2), translate(10,0)", (24, 2)),
        (" ", (2, 1)),
    ],
)
def test_a_transform_moves_a_point(transform, expected):
    assert (matrix_of(transform) @ [2, 1, 1])[:2] == pytest.approx(expected)


def test_transforms_nest_from_inside_to_outside():
    inside = """<g transform="translate(100,0)"><g transform="scale(2)"><path transform="rotate(90)" d="M1 0L2 0"/></g>
        <path d="M1 0L2 0"/></g><path d="M1 0L2 0"/>"""
    assert rounded(inside) == [[[100, 2], [100, 4]], [[101, 0], [102, 0]], [[1, 0], [2, 0]]]


def test_definitions_and_what_is_switched_off_are_not_drawn():
    inside = """<defs><path d="M0 0H1"/><g><path d="M0 0H1"/></g></defs><g display="none"><path d="M0 0H1"/></g>
        <g style="stroke:red; display : none"><path d="M0 0H1"/></g><clipPath><rect width="1" height="1"/></clipPath>
        <path d="M7 7H8"/>"""
    assert rounded(inside) == [[[7, 7], [8, 7]]]


def test_prefixed_names_are_the_same_elements():
    data = b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:path d="M0 0H1"/></s:svg>'
    assert len(strokes_of_svg(data, "a.svg")[0]) == 1


def test_the_doctype_of_the_w3c_alone_is_harmless():
    assert len(strokes('<path d="M0 0H1"/>', before=W3C)) == 1


LAUGHS = (
    '<!DOCTYPE svg [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]>"
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"{LAUGHS}{HEAD}<text>&j;</text></svg>", "declarations"),
        (f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>{HEAD}<text>&x;</text></svg>', "declarations"),
        (f'<!DOCTYPE svg SYSTEM "x.dtd" [<!ATTLIST svg a CDATA "b">]>{HEAD}</svg>', "declarations"),
        (f"{W3C}{HEAD}<text>&nowhere;</text></svg>", "the entity 'nowhere'"),
        (f'{HEAD}<image width="1" height="1"/></svg>', "a picture"),
        (f'{HEAD}<image xlink:href="data:image/png;base64,AAAA"/></svg>', "a reference to 'data:"),
        (f'{HEAD}<use xlink:href="file:///etc/passwd#a"/></svg>', "a reference to 'file:///etc/passwd#a'"),
        (f'{HEAD}<use href="http://somewhere/a.svg#b"/></svg>', "a reference to 'http://somewhere/a.svg#b'"),
        (f'{HEAD}<defs><use href="other.svg#b"/></defs></svg>', "a reference to 'other.svg#b'"),
    ],
)
def test_what_points_outside_a_file_is_refused(text, what, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{name}.svg").write_text(f"{HEAD}<path d='M0 0H1'/></svg>")
    (tmp_path / "cat" / "c.svg").write_text(text)
    with pytest.raises(DataError) as error:
        open_source(tmp_path, "svg")
    assert f"cat/c.svg: has {what}" in str(error.value)
    assert "none is ever looked up. Take it out" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\n<path d='M0 0H1'></svg>", "line 2: mismatched tag"),
        (f"{HEAD}\n\n<path d='M0 0H'/></svg>", "line 3: 0 numbers behind 'H'"),
        (f"{HEAD}<g transform='turn(3)'/></svg>", "line 1: the transform 'turn\\(3\\)'"),
        (f"{HEAD}<g transform='scale(3) x'/></svg>", "line 1: the transform 'x'"),
        (f"{HEAD}<g transform='rotate(1e999)'/></svg>", "line 1: the transform 'rotate"),
        (f"{HEAD}<line x1='5%'/></svg>", "x1='5%', which is no number of pixels"),
        (f"{HEAD}<polyline points='1 2 3'/></svg>", "3 numbers as points"),
        ("<html/>", "<html> where <svg> is due"),
        ("no xml", "line 1: "),
    ],
)
def test_what_is_malformed_is_told_with_its_line(text, message):
    with pytest.raises(Unreadable, match=message):
        strokes_of_svg(text.encode(), "a.svg")


def test_a_folder_is_read_by_class_with_what_cannot_be_used_counted(tmp_path, capsys):
    for name, count in (("cat", 2), ("ant", 3), ("alone", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"{i}.svg").write_text(f"{HEAD}<path d='M{i} 0H9'/><text>hello</text></svg>")
    (tmp_path / "ant" / "3.svg").write_text(f"{HEAD}<path d='M1 0H'/></svg>")
    (tmp_path / "ant" / "4.svg").write_text(f"{HEAD}<g/></svg>")
    (tmp_path / "ant" / "5.svg").write_text(f"{HEAD}<path d='M1e999 0H1V2'/></svg>")
    sketches = open_source(tmp_path)
    assert sketches.classes == ["ant", "cat"]
    assert sketches.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert sketches.strokes.drawing(1)[0].tolist() == [[1, 0], [9, 0]]
    assert sketches.strokes.drawing(3)[0].tolist() == [[1, 0], [1, 2]]
    lines = sketches.left_out.lines()
    assert f"left out 1: cannot be read ({tmp_path}/ant/3.svg: line 1: 0 numbers behind 'H'" in lines[0]
    assert lines[1] == f"left out 1: empty drawing ({tmp_path}/ant/4.svg)"
    assert lines[2].startswith("left out 1: points that are not finite")
    assert lines[3] == f"left out 1: the only sketch of its class ({tmp_path}/alone/0.svg)"
    assert "elements that are not drawn: <text> (6)" in capsys.readouterr().out


def test_text_that_stands_for_more_points_than_any_sketch_has_is_left_out(monkeypatch):
    monkeypatch.setattr("stablelit.families.sketches.readers.svg.MOST_POINTS", 1000)
    # four characters of a smooth curve are 16 points
    assert len(strokes('<path d="M0 0Q1 1 2 2' + "T1 1" * 50 + '"/>')) == 1
    with pytest.raises(Unreadable, match="more than 1000 points"):
        strokes('<path d="M0 0Q1 1 2 2' + "T1 1" * 70 + '"/>')
