"""check(): a `_target_` must name something, and something that a configuration may have called."""

from __future__ import annotations

import sys
import textwrap
import types

import pytest
from omegaconf import OmegaConf

import stablelit.functional
from stablelit.errors import ConfigurationError
from stablelit.run.check import Problem, allow_targets_from_overrides, check

USER_MODULE = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width: int):
        super().__init__()

    @classmethod
    def small(cls):
        return cls(4)


def make_net(width: int):
    return Net(width)


CONSTANT = 3
"""


@pytest.fixture(autouse=True)
def user_modules(tmp_path, monkeypatch):
    (tmp_path / "user_zoo.py").write_text(USER_MODULE)
    (tmp_path / "user_broken.py").write_text("import package_that_nobody_has\n")
    (tmp_path / "user_exits.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(p) for p in problems]
    return problems[0]


@pytest.mark.parametrize(
    ("target", "what", "remedy"),
    [
        ("lightning.pytorch.callbacks.EarlyStoping", "has no 'EarlyStoping'", "'EarlyStopping'"),
        ("lightning.pytorch.callback.EarlyStopping", "'lightning.pytorch' has no 'callback'", "'callbacks'"),
        ("torhc.optim.AdamW", "there is no module 'torhc'", "'torch'"),
        ("torch.optim.AdamW.leran", "'torch.optim.AdamW' has no 'leran'", ""),
        ("user_zoo.Nett", "'user_zoo' has no 'Nett'", "'Net'"),
        ("user_broken.Net", "ModuleNotFoundError: No module named 'package_that_nobody_has'", ""),
        ("user_exits.Net", "SystemExit: 3", ""),
        ("AdamW", "not a dotted path", "package.module.Name"),
        ("torch..AdamW", "not a dotted path", ""),
        (".torch.AdamW", "not a dotted path", ""),
        (3, "not a dotted path", ""),
        (None, "not a dotted path", ""),
    ],
)
def test_a_target_that_names_nothing_says_which_part_failed(target, what, remedy):
    problem = only(check({"x": {"_target_": target}}))
    assert problem.key == "x._target_"
    assert what in problem.what
    assert remedy in problem.remedy


def test_a_missing_optional_dependency_keeps_its_own_message(tmp_path):
    (tmp_path / "user_optional.py").write_text(
        "from stablelit.errors import missing_extra\nraise missing_extra('h5py', 'hdf5', 'reading HDF5')\n"
    )
    problem = only(check({"x": {"_target_": "user_optional.Reader"}}))
    assert problem.what == "reading HDF5 needs 'h5py'. Install it with: pip install 'stablelit[hdf5]'"


DANGEROUS = [
    "torch.utils.collect_env.run",
    "hydra.utils.get_method",
    "hydra.utils.get_class",
    "hydra.utils.get_object",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "builtins.eval",
    "builtins.exec",
    "functools.partial",
    "subprocess.Popen",
    "subprocess.run",
    "os.system",
    "posix.system",
    "shutil.rmtree",
    "importlib.import_module",
    "pathlib.Path.unlink",
    "pickle.loads",
    "antigravity.webbrowser",
    "torch.load",
    "torch.hub.load",
    "torch.os.system",
    "torch.serialization.load",
    "torch.optim.AdamW.step",
    "torch.nn.Module.load_state_dict",
    "torch.nn.Embedding.from_pretrained",
    "torch.nn.functional.relu",
    "torch_geometric.nn.Sequential",
    "torch_geometric.nn.models.basic_gnn.torch.load",
    "torch_geometric.datasets.Planetoid",
    "torch_geometric.data.InMemoryDataset",
    "torch.utils.data.datapipes.iter.FileOpener",
    "torch.distributed.nn.RemoteModule",
    "torch.fx.GraphModule",
    "torch.jit.ScriptModule",
    "torch.tensor",
    "numpy.load",
    "numpy.memmap",
    "lightning.pytorch.Trainer.fit",
    "lightning.pytorch.LightningModule.load_from_checkpoint",
    "lightning.pytorch.LightningDataModule.from_datasets",
    "lightning.pytorch.seed_everything",
    "lightning.pytorch.cli.LightningCLI",
    "lightning.pytorch.__builtins__.eval",
    "lightning.pytorch.trainer.trainer.os.system",
    "pytest.__main__.main",
    "omegaconf.OmegaConf.load",
    "yaml.unsafe_load",
    "user_zoo.make_net",
    "user_zoo.Net.small",
    "user_zoo.Net.__init__",
    "user_zoo.CONSTANT",
    "user_zoo.torch.load",
    "torch.optim",
    "stablelit.run.located_target.importlib.import_module",
    "stablelit.run.targets.resolve_target",
    "stablelit.run.check.check",
    "stablelit.run.check.OmegaConf.load",
    # doors: their argument could name another run and allow its targets
    "stablelit.predict.main",
    "stablelit.probe.main",
    "stablelit.train.main",
    "stablelit.doctor.door.main",
    # what writes or deletes where its argument says
    "stablelit.families.proteins.fasta_writer.write_fasta",
    "stablelit.families.proteins.preparation.prepare",
    "stablelit.families.proteins.journal.JournaledFiles",
    "stablelit.families.jets.readers.write_jets",
    "stablelit.families.sketches.readers.write_strokes",
    "stablelit.data.files.replacing",
    "stablelit.findings.append_finding",
    "stablelit.functional.schedules.math.sqrt",
    "stablelit.functional.schedules._CLOCK",
    "stablelit.functional.schedules.PACINGS",
    "stablelit.functional.schedules.Ramp.value",
    "stablelit.functional.schedules.Callable",
]


@pytest.mark.parametrize("target", DANGEROUS)
def test_what_is_no_part_of_a_training_run_is_refused(target):
    assert "x._target_" in [p.key for p in check({"x": {"_target_": target, "_partial_": True}})]


@pytest.mark.parametrize(
    "wrapped", ["{x: [{_target_: os.system}]}", "{_target_: torch.nn.Identity, x: {y: {_target_: os.system}}}"]
)
def test_a_refused_target_is_found_at_any_depth(wrapped):
    assert any(p.key.endswith("_target_") for p in check(OmegaConf.create(wrapped)))


def test_a_refusal_says_what_it_resolves_to_why_and_how_to_allow_it():
    problem = only(check({"x": {"_target_": "user_zoo.torch.load", "f": 1}}))
    assert "the function torch.serialization.load" in problem.what
    assert "not defined in stablelit" in problem.what
    assert "allow_targets=[user_zoo.torch.load]" in problem.remedy


def test_the_standard_library_is_refused_without_being_imported():
    sys.modules.pop("this", None)
    assert check({"x": {"_target_": "this.s"}})
    assert "this" not in sys.modules


@pytest.mark.parametrize("allowed", ["user_zoo.torch.load", "torch.serialization.load"])
def test_a_target_is_allowed_as_written_or_as_it_resolves(allowed):
    config = {"x": {"_target_": "user_zoo.torch.load", "f": "a.pt"}}
    assert check(config, allow_targets=[allowed]) == []
    assert only(check(config, allow_targets=["torch.load"])).key == "x._target_"


def test_an_allowed_target_still_has_its_arguments_checked():
    config = {"x": {"_target_": "user_zoo.make_net", "width": "a"}}
    assert only(check(config, allow_targets=["user_zoo.make_net"])).key == "x.width"


def test_a_configuration_cannot_allow_its_own_targets():
    config = {"allow_targets": ["user_zoo.make_net"], "x": {"_target_": "user_zoo.make_net", "width": 1}}
    problems = check(config)
    assert [p.key for p in problems] == ["allow_targets", "x._target_"]
    assert check(config, allow_targets=["user_zoo.make_net"]) == []
    assert only(check({"allow_targets": "a.b"})).key == "allow_targets"
    assert check({"allow_targets": []}) == []
    assert check({"allow_targets": None}) == []


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["allow_targets=[a.b,c.d]"], ["a.b", "c.d"]),
        (["allow_targets=a.b"], ["a.b"]),
        (["+allow_targets='a.b'"], ["a.b"]),
        (["++allow_targets=[ 'a.b' , c.d, a.b]"], ["a.b", "c.d"]),
        (["allow_targets=a.b", "model.lr=3", "allow_targets=c.d"], ["c.d"]),
        (["allow_targets=[]"], []),
        (["allow_targets=null"], []),
        (["allow_targets="], []),
        (["model.allow_targets=a.b", "allow_targets_too=a", "~allow_targets", "-m", "x=allow_targets=a"], []),
    ],
)
def test_allowed_targets_are_read_from_the_command_line(overrides, names):
    assert allow_targets_from_overrides(overrides) == names


@pytest.mark.parametrize("text", ["allow_targets=a,b", "allow_targets=[a", "allow_targets={a:b}", "allow_targets=[1]"])
def test_allowed_targets_that_are_no_list_of_names_are_an_error(text):
    with pytest.raises(ConfigurationError, match="allow_targets"):
        allow_targets_from_overrides([text])


def test_our_own_classes_functions_and_constructors_are_allowed_and_their_instances_are_not(monkeypatch):
    room = types.ModuleType("stablelit.functional.room")
    code = """
    import functools, os
    system = os.system
    class Thing:
        def __call__(self): ...
        @classmethod
        def small(cls, n: int = 1): return cls()
        @staticmethod
        def large(n: int = 1): return Thing()
        def act(self): ...
    def make(n: int = 1): return Thing()
    def _private(): ...
    thing = Thing()
    def outer():
        def inner(): ...
        return inner
    inner = outer()
    renamed = outer()
    renamed.__qualname__ = "make"
    partly = functools.partial(os.system, "ls")
    """
    exec(textwrap.dedent(code), vars(room))
    monkeypatch.setitem(sys.modules, "stablelit.functional.room", room)
    monkeypatch.setattr(stablelit.functional, "room", room, raising=False)
    for name in ("Thing", "make", "Thing.small", "Thing.large"):
        assert check({"x": {"_target_": f"stablelit.functional.room.{name}"}}) == [], name
    for name in (
        "system",
        "os.system",
        "Thing.act",
        "_private",
        "thing",
        "inner",
        "renamed",
        "partly",
        "functools.partial",
    ):
        assert check({"x": {"_target_": f"stablelit.functional.room.{name}"}}), name
    assert only(check({"x": {"_target_": "stablelit.functional.room.make", "n": "a"}})).key == "x.n"
    monkeypatch.setattr(room.make, "__module__", "stablelit.run.room")
    assert check({"x": {"_target_": "stablelit.functional.room.make"}})


def test_a_package_seen_a_second_time_through_its_own_path_leads_round_nothing():
    # in a checkout, the folder above the package is on its path, so that `stablelit.conf` can be imported
    for target in ("stablelit.stablelit.predict.main", "stablelit.stablelit.families.proteins.journal.JournaledFiles"):
        assert only(check({"x": {"_target_": target, "_partial_": True}})).key == "x._target_"


def test_a_class_of_ones_own_that_derives_from_a_library_data_set_is_allowed(tmp_path):
    (tmp_path / "user_graphs.py").write_text(
        "from torch_geometric.data import InMemoryDataset\nclass Mine(InMemoryDataset):\n    ...\n"
    )
    assert check({"x": {"_target_": "user_graphs.Mine", "_partial_": True}}) == []
