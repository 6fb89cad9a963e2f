"""What the pages show exists: links, commands, options, callbacks, figures' benchmarks, and Python that runs."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import stablelit

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "notebooks/*.md", "tests/fuzz/*.md", "stablelit/**/README.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CONF = ROOT / "conf"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """As code hosts and mkdocs make them, for headings of words."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_in(page: str) -> list[str]:
    """Everything that is typed into a shell: lines of fences, and code in the text."""
    fenced = [
        line for language, body in FENCE.findall(text_of(page)) if language != "python" for line in body.split("\n")
    ]
    return [*fenced, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page)))]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors_of(target), link


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_run_exist(page):
    for name in re.findall(r"python -m ((?:stablelit|benchmarks|tests)[\w.]*)", text_of(page)):
        assert importlib.util.find_spec(name.rstrip(".")), name


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page):
    known = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.M))
    for command in commands_in(page):
        if found := re.match(r"make ([a-z-]+)(?:\s|$)", command):
            assert found[1] in known, command


@pytest.mark.parametrize("page", PAGES)
def test_choices_of_configuration_exist(page):
    groups = "|".join(sorted({str(p.parent.relative_to(CONF)) for p in CONF.rglob("*.yaml")} - {"."}, key=len)[::-1])
    for command in commands_in(page):
        for group, options in re.findall(rf"(?<![\w./])\+?({groups})=([\w,]+)", command):
            # of one launcher the file is ours, of the others a plug-in's
            for option in {*options.split(",")} - {"mine", "joblib", "submitit_local", "NAME"} - {""}:
                assert (CONF / group / f"{option}.yaml").is_file(), command
        for listed in re.findall(r"callbacks=\[([\w,]+)\]", command):
            for option in listed.split(","):
                assert (CONF / "callbacks" / f"{option}.yaml").is_file(), command


@pytest.mark.parametrize("page", PAGES)
def test_extras_that_are_installed_exist(page):
    extras = set(
        re.findall(r"^(\w+) = \[", text_of("pyproject.toml").split("[project.optional-dependencies]")[1], re.M)
    )
    for found in re.findall(r"pip install '?stablelit\[([\w,]+)\]", text_of(page)):
        assert set(found.split(",")) <= extras, found


@pytest.mark.parametrize("page", PAGES)
def test_python_compiles_and_its_imports_are_there(page):
    for language, body in FENCE.findall(text_of(page)):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stablelit"):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{node.module}.{name.name}"


@pytest.mark.parametrize("page", PAGES)
def test_callbacks_can_be_made_as_shown(page):
    """Every call of a name of `stablelit` whose arguments are written out."""
    for language, body in FENCE.findall(text_of(page)):
        if language != "python":
            continue
        known = {name: getattr(stablelit, name) for name in stablelit.__all__}
        calls = [node for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Call)]
        for call in calls:
            # what needs somebody's module or trainer is theirs to make
            names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            if isinstance(call.func, ast.Name) and names <= known.keys():
                eval(compile(ast.Expression(call), page, "eval"), dict(known))


def test_the_readme_has_every_experiment_and_every_callback():
    readme = text_of("README.md")
    missing = [path.stem for path in (CONF / "experiment").glob("*.yaml") if f"+experiment={path.stem}`" not in readme]
    names = (name for name in stablelit.__all__ if isinstance(getattr(stablelit, name), type))
    elsewhere = {"PlateauGate", "SharedLevel"}
    missing += [name for name in names if f"`{name}`" not in readme and name not in elsewhere]
    assert missing == []


def test_every_page_is_in_the_site():
    site = text_of("mkdocs.yml")
    for page in PAGES:
        name = {"README.md": "index.md"}.get(page, page.removeprefix("docs/"))
        assert re.search(rf": {re.escape(name)}$", site, re.M), name


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load(text_of("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "version"} <= cited.keys()
    assert cited["version"] == stablelit.__version__
    assert cited["license"] in text_of("pyproject.toml")
    assert f'version = "{stablelit.__version__}"' in text_of("pyproject.toml")
