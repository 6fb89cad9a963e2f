from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError, MissingDependencyError
from stablelit.families.neutrinos.geometry import DetectorGeometry, hexagonal_detector, read_geometry


def csv_file(tmp_path, text, name="sensor_geometry.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def parquet_file(tmp_path, columns, name="table.parquet"):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an optional dependency: stablelit[parquet]")
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), tmp_path / name)
    return tmp_path / name


def test_the_hexagonal_detector_is_as_large_and_as_numbered_as_icecube():
    geometry = hexagonal_detector()
    assert len(geometry) == 5160
    assert geometry.position.dtype == np.float32
    assert np.array_equal(geometry.string, np.repeat(np.arange(1, 87), 60))
    assert np.array_equal(geometry.deep_core, geometry.string > 78)
    assert geometry.identity() == hexagonal_detector().identity()


def test_strings_stand_125_m_apart_and_sensors_hang_17_m_apart():
    position = hexagonal_detector().position.astype(float)
    strings = position[: 78 * 60 : 60, :2]
    apart = np.linalg.norm(strings[:, None] - strings, axis=-1)
    nearest = np.sort(apart, axis=1)[:, 1]
    assert np.allclose(nearest, 125.0, atol=1e-3)
    # inside the grid a string has six neighbours
    assert (np.isclose(apart, 125.0, atol=1e-3).sum(axis=1) == 6).sum() > 40
    heights = position[:, 2].reshape(86, 60)
    assert np.allclose(np.diff(heights, axis=1), -17.0)
    assert np.allclose(heights.mean(axis=1), 0.0)
    assert (np.linalg.norm(position[78 * 60 :, :2], axis=1) < 125.0).all()


def test_no_two_strings_stand_at_one_place():
    strings = hexagonal_detector().position[::60, :2]
    apart = np.linalg.norm(strings[:, None] - strings, axis=-1)
    assert apart[~np.eye(86, dtype=bool)].min() > 40.0


def test_a_written_geometry_is_read_again_exactly(tmp_path):
    geometry = hexagonal_detector()
    geometry.write_csv(tmp_path / "sensor_geometry.csv")
    again = read_geometry(tmp_path / "sensor_geometry.csv")
    for name in ("position", "string", "deep_core"):
        assert np.array_equal(getattr(again, name), getattr(geometry, name))
    assert again.identity() == geometry.identity()


def test_rows_may_be_in_any_order(tmp_path):
    path = csv_file(tmp_path, "x,y,z,sensor_id\n2,0,5,1\n1,0,4,0\n3,0,6,2\n")
    assert read_geometry(path).position.tolist() == [[1, 0, 4], [2, 0, 5], [3, 0, 6]]


def test_strings_of_another_detector_are_found_by_equal_x_and_y(tmp_path):
    path = csv_file(tmp_path, "sensor_id,x,y,z\n0,9,9,1\n1,0,0,1\n2,9,9,2\n3,0,5,1\n4,0,0,2\n")
    geometry = read_geometry(path)
    assert geometry.string.tolist() == [1, 2, 1, 3, 2]
    assert not geometry.deep_core.any()


def test_graphnets_table_of_icecube_is_moved_up_to_the_detectors_centre(test_data):
    pytest.importorskip("pyarrow", reason="pyarrow is an optional dependency: stablelit[parquet]")
    geometry = read_geometry(test_data / "neutrinos" / "icecube_geometry.parquet")
    assert np.allclose(geometry.position[0], [-256.14, -521.08, 496.03], atol=1e-3)
    assert geometry.position[:, 2].max() == pytest.approx(524.56, abs=1e-2)
    assert np.array_equal(geometry.string, np.arange(5160) // 60 + 1)
    # DeepCore's strings stand around the middle, and its sensors are nearer to each other
    assert np.linalg.norm(geometry.position[geometry.deep_core, :2], axis=1).max() < 160.0
    heights = geometry.position[geometry.deep_core, 2].reshape(8, 60)
    assert np.median(-np.diff(heights, axis=1)) == pytest.approx(7.0, abs=0.1)


def test_the_strings_of_a_table_are_taken_and_its_depths_left_where_it_is_another_detector(tmp_path):
    columns = {"sensor_pos_x": [0.0, 0.1], "sensor_pos_y": [1.0, 1.0], "sensor_pos_z": [-2000.0, -2017.0]}
    path = parquet_file(tmp_path, columns | {"sensor_id": [0, 1], "sensor_string_id": [7.0, 7.0]})
    geometry = read_geometry(path)
    assert geometry.string.tolist() == [7, 7]
    assert geometry.position[:, 2].tolist() == [-2000.0, -2017.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sensor_id,x,y,Z\n0,1,2,3\n", "no column 'z'.*'Z'"),
        ("sensorid,x,y,z\n0,1,2,3\n", "no column 'sensor_id'.*Did you mean 'sensorid'"),
        ("sensor_id;x;y;z\n0;1;2;3\n", "no column 'sensor_id'"),
        ("sensor_id,x,y,z\n", "no sensors"),
        ("\n\n", "no lines"),
        ("sensor_id,x,y,z\n0,1,2,3\n1,1,2\n", "row 2 has 3 cells"),
        ("sensor_id,x,y,z\n0,1,2,3\n1,1,nan,3\n", "row 2: y is 'nan'"),
        ("sensor_id,x,y,z\n0,1,2,3\n1,1,,3\n", "row 2: y is ''"),
        ("sensor_id,x,y,z\n0,1,2,3\n1,1,inf,3\n", "row 2: y is 'inf'"),
        ("sensor_id,x,y,z\n0,1,2,3\n0,1,2,4\n", "sensor_id 0 is there more than once.*rows 1 and 2"),
        ("sensor_id,x,y,z\n1,1,2,3\n2,1,2,4\n", "row 2: sensor_id is 2.*Allowed: 0 to 1"),
        ("sensor_id,x,y,z\n0,1,2,3\n0.5,1,2,4\n", "row 2: sensor_id is 0.5"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path, text, message):
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError, match=message) as error:
        read_geometry(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_geometry_are_refused(tmp_path):
    csv_file(tmp_path, "sensor_id,x,y,z\n0,1,2,3\n")
    with pytest.raises(DataError, match="Did you mean 'sensor_geometry.csv'"):
        read_geometry(tmp_path / "sensor_geometri.csv")
    with pytest.raises(DataError, match="empty"):
        read_geometry(csv_file(tmp_path, "", "nothing.csv"))
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as csv"):
        read_geometry(tmp_path / "picture.csv")
    pytest.importorskip("pyarrow", reason="pyarrow is an optional dependency: stablelit[parquet]")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_geometry(csv_file(tmp_path, "sensor_id,x,y,z\n", "text.parquet"))
    with pytest.raises(DataError, match="no column 'sensor_pos_y'"):
        read_geometry(parquet_file(tmp_path, {"sensor_pos_x": [0.0], "sensor_id": [0]}))
    with pytest.raises(DataError, match="row 1: z is None"):
        read_geometry(parquet_file(tmp_path, {"x": [0.0], "y": [0.0], "z": [None], "sensor_id": [0]}))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"stablelit\[parquet\]"):
        read_geometry(csv_file(tmp_path, "text", "table.parquet"))


def test_arrays_that_do_not_belong_together_are_refused():
    position, string, deep_core = np.zeros((3, 3), np.float32), np.ones(3, np.int32), np.zeros(3, bool)
    DetectorGeometry(position, string, deep_core)
    with pytest.raises(ConfigurationError, match="position"):
        DetectorGeometry(position[:, :2], string, deep_core)
    with pytest.raises(ConfigurationError, match="position"):
        DetectorGeometry(position[:0], string[:0], deep_core[:0])
    with pytest.raises(ConfigurationError, match="deep_core"):
        DetectorGeometry(position, string, deep_core[:2])
    with pytest.raises(ConfigurationError, match=r"position\[1\]"):
        DetectorGeometry(np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0]], np.float32), string, deep_core)
