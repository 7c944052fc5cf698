"""What the README and the pages of the documentation show runs as it stands; the reference has all that is exported."""

import ast
import importlib
import re
import shlex
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from socketserver import BaseServer

import pytest
import yaml

from basinet.analysis.studies import STUDIES
from basinet.launch.cli import main
from basinet.sim.experiment import yaml_files
from basinet.sim.experiment.config import Config
from basinet.sim.experiment.pipeline import make_experiment

ROOT = Path(__file__).parents[1]
ROOMS = ("launch", "analysis", "sim", "algorithms", "topologies")
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(page for page in (ROOT / "docs").glob("*/*.md") if page.parent.name != "generated"),
    ]
}
SMALL = {
    "task": {"name": "digits", "train_size": 64},
    "model": {"name": "mlp", "hidden": [6]},
    "topology": {"name": "ring", "agents": 4},
    "steps": 4,
    "replicas": 1,
}
pytestmark = pytest.mark.usefixtures("shared_parts")

WHOLE = ("README.md", "docs/own/own_task.md", "docs/studies/which_topology.md")
every_page = pytest.mark.parametrize("page", sorted(PAGES))


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.DOTALL)


def pages_with(language):
    return pytest.mark.parametrize("page", [page for page in sorted(PAGES) if blocks(page, language)])


def shortened(keys):
    return keys | {"steps": min(keys["steps"], 6)} if "steps" in keys else keys


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def videos(kept, tmp_path):
    """Let pages share the videos that they make."""
    (tmp_path / "cache").symlink_to(kept)


@pytest.mark.slow
@pages_with("python")
def test_the_python_of_a_page_runs(page, tmp_path, videos, monkeypatch, capsys, no_reports, no_trials, least_measured):
    """Those whose numbers are looked at take all of their steps."""
    monkeypatch.chdir(tmp_path)
    if page not in WHOLE:
        monkeypatch.setattr("basinet.launch.api.make_experiment", lambda keys: make_experiment(shortened(keys)))
    scope = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), scope)
    if "results" in scope:
        assert set(scope["results"].states.values()) == {"done"}
    said = capsys.readouterr().out
    accuracies = re.findall(r"^(?:isolated|diffusion ATC) (\S+)", said, flags=re.MULTILINE)
    # half of the points are in either class
    assert page != "README.md" or (len(accuracies) == 2 and min(map(float, accuracies)) > 0.9)
    for before, after in re.findall(r"^(\S+) → (\S+)$", said, flags=re.MULTILINE):
        assert float(after) < float(before) / 10


BASE = yaml.safe_load(blocks("docs/experiments.md", "yaml")[0])


@pages_with("yaml")
def test_the_experiments_of_a_page_are_valid(page):
    for block in blocks(page, "yaml"):
        description = {**BASE, **yaml_files.load(block)}
        assert make_experiment(description).runs


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in sorted(PAGES) if blocks(page, "bash") and "several_m" not in page])
def test_the_commands_of_a_page_work(page, tmp_path, videos, monkeypatch, capsys, no_reports, least_measured):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(BaseServer, "serve_forever", lambda server: None)
    own = next((found for block in blocks(page, "yaml") if "task" in (found := yaml.safe_load(block))), BASE)
    Path("experiment.yaml").write_text(yaml.safe_dump(own | SMALL, sort_keys=False))
    commands = [shlex.split(line, comments=True) for block in blocks(page, "bash") for line in block.splitlines()]
    for place, (program, *words) in enumerate(commands):
        if program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
            continue
        if program == "torchrun":
            program, *words = words[words.index("basinet") - 1 :]
        words = words[: words.index("|")] if "|" in words else words
        assert program in ("basinet", "-m") and words
        if words[0] == "reproduce" and len(words) > 1:
            assert words[1] in STUDIES  # which take minutes
            continue
        if program == "-m":
            words = words[1:]
        if words[0] == "serve":
            words = [*words, "--port", "0"]  # any that is free
        results = words[words.index("--out") + 1] if "--out" in words else None
        later = [pair for command in commands[place + 1 :] for pair in pairwise(command)]
        used_later = any(word.startswith(f"{results}") and before != "--out" for before, word in later)
        if words[0] == "run" and not used_later:
            words = [*words, "--dry-run"]
        elif words[0] == "run" and "experiment.yaml" not in words:  # it changes the main job
            words = [*words, "task.train_size=64", "model.hidden=[4]", "steps=2", "replicas=1", "analysis=[]"]
        assert main(words) == 0, words
        capsys.readouterr()


@every_page
def test_what_a_page_points_to_exists(page):
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert "generated/" in link or (folder / link).exists(), link
    tops = {path.name for path in ROOT.iterdir()} - {"runs", "build"}  # what commands leave behind
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", PAGES[page]):
        assert path.partition("/")[0] not in tops or (ROOT / path).exists(), path


def test_the_readme_is_an_overview():
    assert len(PAGES["README.md"].splitlines()) <= 150


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The pages that are made from the code, by name."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        importlib.import_module("generate").generate(folder)
    return {str(page.relative_to(folder)): page.read_text(encoding="utf-8") for page in folder.rglob("*.*")}


def exported():
    """List modules and the names that their `__all__` holds, as they are written down."""
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            module = ".".join(["basinet", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
            for statement in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
                    for name in ast.literal_eval(statement.value):
                        yield module, name


def test_the_reference_has_every_name_that_a_module_exports(generated):
    reference = "".join(text for page, text in generated.items() if page.startswith("reference/"))
    described = re.findall(
        r"^\.\. (?:auto|py:)(?:class|exception|function|data):: basinet\.(\S+)$", reference, re.MULTILINE
    )
    assert len(described) == len(set(described))
    homes = defaultdict(list)
    for path in described:
        home, _, name = f"basinet.{path}".rpartition(".")
        homes[name].append(home)
    names = list(exported())
    assert len(names) > 500
    for module, name in names:
        thing = getattr(importlib.import_module(module), name)
        assert any(getattr(importlib.import_module(home), name) is thing for home in homes[name]), (module, name)


def test_the_generated_pages_have_every_key_command_and_component(generated, capsys):
    assert all(f"| `{key}` |" in generated["keys.md"] for key in Config.model_fields)
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([\w-]+)  ", capsys.readouterr().out, flags=re.MULTILINE)
    assert "run" in commands and {f"commands/{name}.md" for name in commands} <= generated.keys()
    strategies = generated["catalogue/strategies.md"]
    assert "## diffusion\n" in strategies and "doi:10.1109/TSP.2012.2198470" in strategies
