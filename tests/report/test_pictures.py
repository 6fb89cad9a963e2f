from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stablelit.report.pictures import embedded_pictures
from tests.report.made_runs import make_picture
from tests.report.page_checks import Parsed


def shown(paths, root, budget):
    """What is embedded, as bytes and pictures, and what was remarked."""
    remarks = []
    page = Parsed()
    page.feed("".join(embedded_pictures(paths, root, remarks, budget)))
    held = [found.attributes for found in page.all("img")]
    data = [base64.b64decode(one["src"].partition(",")[2]) for one in held]
    return data, [Image.open(io.BytesIO(one)).convert("RGB") for one in data], held, remarks


def test_small_pictures_are_taken_as_they_are(tmp_path):
    paths = [make_picture(tmp_path / "a.png"), make_picture(tmp_path / "test" / "b.png")]
    data, _, held, remarks = shown(paths, tmp_path, 100_000)
    assert data == [path.read_bytes() for path in paths]
    assert [one["alt"] for one in held] == ["a, a picture that the run drew", "test: b, a picture that the run drew"]
    assert (held[0]["width"], held[0]["height"]) == ("320", "200")
    assert remarks == []


def test_large_pictures_share_what_the_small_ones_leave(tmp_path):
    paths = [make_picture(tmp_path / f"noise_{place}.png", 250, 200, noise=True) for place in range(3)]
    paths.append(make_picture(tmp_path / "small.png"))
    data, pictures, held, remarks = shown(paths, tmp_path, 80_000)
    assert sum(map(len, data)) <= 80_000
    assert sum(map(len, data[:3])) > 20_000
    assert data[3] == paths[3].read_bytes()
    assert [picture.size for picture in pictures] == [(int(one["width"]), int(one["height"])) for one in held]
    assert all(one["src"].startswith("data:image/webp") for one in held[:3])
    assert remarks == []


def test_what_does_not_fit_is_left_out_and_said(tmp_path):
    path = make_picture(tmp_path / "noise.png", 500, 400, noise=True)
    data, _, _, remarks = shown([path], tmp_path, 300)
    assert data == []
    assert remarks[0].startswith("noise.png: a picture that cannot be shown: ")
    assert remarks[0].endswith("KiB where 0 are left.")


def test_what_is_transparent_lies_on_white(tmp_path):
    ink = np.zeros((400, 500, 4), dtype=np.uint8)
    ink[::2, :, :3], ink[:, :250, 3] = np.random.default_rng(0).integers(0, 256, (200, 500, 3)), 255
    Image.fromarray(ink).save(tmp_path / "a.png")
    _, (picture,), _, _ = shown([tmp_path / "a.png"], tmp_path, 120_000)
    assert min(picture.getpixel((400, 200))) > 250


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\0" * 40],
    ids=["empty", "text", "cut-off", "another-format"],
)
def test_what_is_no_picture_is_said(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    data, _, _, remarks = shown([tmp_path / "a.png"], tmp_path, 100_000)
    assert data == []
    assert len(remarks) == 1


def test_a_picture_that_is_cut_off_in_the_middle_is_said(tmp_path):
    path = make_picture(tmp_path / "a.png", 300, 300, noise=True)
    path.write_bytes(path.read_bytes()[:-2000])
    assert shown([path], tmp_path, 1_000_000)[3]
