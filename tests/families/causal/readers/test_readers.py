from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import DataError
from stablelit.families.causal.readers import FORMATS, PanelSettings, check_suffix, read_panel

VALUES = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 7.0], [6.0, 8.0]])


def write(path):
    """The same rows in the format of the suffix."""
    suffix = path.suffix
    if suffix == ".npy":
        np.save(path, VALUES)
    elif suffix == ".npz":
        np.savez(path, values=VALUES)
    elif suffix == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
        pytest.importorskip("pyarrow.parquet").write_table(
            pa.table({f"x{i}": pa.array(VALUES[:, i]) for i in range(2)}), path
        )
    else:
        mark = {".csv": ",", ".tsv": "\t", ".txt": ";"}[suffix]
        path.write_text(f"x0{mark}x1\n1{mark}2\n3{mark}NA\n5{mark}7\n6{mark}8\n")
    return path


@pytest.mark.parametrize("suffix", [suffix for entry in FORMATS for suffix in entry.suffixes])
def test_every_format_gives_the_same_panel(tmp_path, suffix):
    panel = read_panel(write(tmp_path / f"a{suffix}")).panel
    assert panel.names == ("x0", "x1")
    assert panel.values.tolist() == [[1, 2], [3, 0], [5, 7], [6, 8]]
    assert panel.mask.tolist() == [[True, True], [True, False], [True, True], [True, True]]


@pytest.mark.parametrize("suffix", [suffix for entry in FORMATS for suffix in entry.suffixes])
def test_a_file_of_any_format_that_is_a_directory_or_not_there_is_refused(tmp_path, suffix):
    with pytest.raises(DataError, match="no such file"):
        read_panel(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read_panel(tmp_path / f"b{suffix}")
    (tmp_path / f"c{suffix}").touch()
    with pytest.raises(DataError, match="0 bytes"):
        read_panel(tmp_path / f"c{suffix}")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"suffix '\.paquet'\. Known: \.csv \.tsv \.txt .*Did you mean '\.parquet'"):
        check_suffix(tmp_path / "a.paquet")
    assert check_suffix("A.CSV") is FORMATS[0]


MASK = np.array([[1, 0], [1, 1], [1, 1], [1, 1]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.npy", MASK),
        ("m.npz", {"mask": MASK}),
        ("m.csv", "x0,x1\n1,0\n1,1\n1,1\n1,1\n"),
        # DataFrame.notna().to_csv()
        ("m.csv", ",x0,x1\n0,True,False\n1,True,True\n2,True,True\n3,True,True\n"),
        # of the whole file, in another order
        ("m.csv", "x1,other,x0\n0,0,1\n1,0,1\n1,0,1\n1,0,1\n"),
        ("m.txt", "1 0\n1 1\n1 1\n1 1\n"),
    ],
)
def test_masks_of_any_form(tmp_path, name, content):
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        np.save(tmp_path / name, content)
    panel = read_panel(write(tmp_path / "a.csv"), PanelSettings(mask=str(tmp_path / name))).panel
    assert panel.mask.tolist() == [[True, False], [True, False], [True, True], [True, True]]
    assert panel.values[0, 1] == 0.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.npy", np.ones((4, 3)), r"the mask has shape \(4, 3\)\. Allowed: \(4, 2\)"),
        ("m.npy", np.ones((2, 2)), r"m\.npy: the mask has shape \(2, 2\)\. Allowed: \(4, 2\)"),
        ("m.npy", np.full((4, 2), 0.5), r"the mask has 0\.5 at \(0, 0\)\. Allowed: 1 where a cell was observed"),
        ("m.npz", {"observed": np.ones((3, 2))}, r"m\.npz: has no array 'mask'. Found: observed"),
        ("m.npz", {"mask": np.ones((2, 2))}, r"the mask has shape \(2, 2\)"),
        ("m.csv", "x0,y1\n1,0\n1,1\n1,1\n", "the mask has no column 'x1'. Found: x0, y1"),
        ("m.csv", "x0,x1\n1,0\n1,1\n", r"the mask has shape \(2, 2\)\. Allowed: \(4, 2\)"),
        ("m.csv", "x0,x1\n1,\n1,1\n1,1\n1,1\n", "column 'x1' has ''"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, name, content, message):
    if isinstance(content, str):
        (tmp_path / name).write_text(content)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read_panel(write(tmp_path / "a.csv"), PanelSettings(mask=str(tmp_path / name)))


def test_the_protein_signals_of_sachs(test_data):
    panel = read_panel(test_data / "causal" / "sachs.2005.continuous.txt").panel
    assert panel.values.shape == (7466, 11)
    assert panel.names == ("raf", "mek", "plc", "pip2", "pip3", "erk", "akt", "pka", "pkc", "p38", "jnk")
    assert panel.mask.all()
    assert panel.values[0, :3].tolist() == [26.4, 13.2, 8.82]
    assert panel.values.min() > 0
