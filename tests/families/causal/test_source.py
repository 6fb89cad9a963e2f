from __future__ import annotations

import numpy as np
import pytest

from stablelit.errors import ConfigurationError, DataError
from stablelit.families.causal.panel import SensorPanel
from stablelit.families.causal.readers import PanelSettings
from stablelit.families.causal.source import FileSource, MemorySource, ToySource, refuse_without_file


def test_a_toy_model_takes_the_seed_where_it_has_none():
    assert ToySource({"nodes": 3}, 5).sem.seed == 5
    assert ToySource({"nodes": 3, "seed": 1}, 5).sem.seed == 1
    assert ToySource(None, 5).deliver().panel.n_columns == 13


def test_toy_data_are_called_toy_data_and_tell_their_corruption():
    delivered = ToySource({"nodes": 3, "rows": 50, "degree": 1, "corruption": {"mcar": 0.5}}, 5).deliver()
    assert delivered.called.startswith("TOY data")
    assert delivered.notes == (f"corrupted cells: mcar {100 * delivered.panel.missing_share:.1f} %",)


def test_a_file_delivers_its_notes_under_its_name_and_its_truth(tmp_path):
    values = np.random.default_rng(0).standard_normal((20, 2))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "g.npy", np.array([[0, 0], [1, 0]]))
    source = FileSource(str(tmp_path / "a.npy"), PanelSettings(), str(tmp_path / "g.npy"), "row", False)
    delivered = source.deliver()
    assert delivered.notes == (f"{tmp_path / 'a.npy'}: its columns are called x0 to x1",)
    assert delivered.panel.truth.tolist() == [[False, False], [True, False]]
    assert set(source.identity(delivered.panel)) == {"source", "bytes", "sha256", "truth"}


def test_rows_in_memory_are_validated_before_anything_else():
    with pytest.raises(DataError, match="panel: column 'x1'"):
        MemorySource(SensorPanel.from_values(np.array([[1.0, 2.0], [2.0, 2.0]])))


def test_what_only_a_file_can_have_is_refused():
    refuse_without_file({"columns": None, "na_values": [1], "sort": False})
    with pytest.raises(ConfigurationError, match="environment_column='site'.*None without a file"):
        refuse_without_file({"environment_column": "site"})
