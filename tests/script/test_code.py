"""What the code must not contain: ways for a file to run code, imports that run up, dead paths."""

from __future__ import annotations

import ast
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("common/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def dangers(source: str) -> list[str]:
    """Return the ways in which a source could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            )
            found += [f"imports {m}" for m in modules if (m or "").split(".")[0] in UNSAFE_MODULES]
            found += ["imports names of yaml"] * (getattr(node, "module", None) == "yaml")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in (
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "pd.read_pickle",
            "pandas.read_pickle",
        ):
            found.append(f"calls {name}")
        if name in ("torch.load", "torch.jit.load") and given.get("weights_only") != "True":
            found.append(f"calls {name} without weights_only=True")
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            found.append(f"calls {name} without allow_pickle=False")
        if name.startswith("yaml.") and "load" in name and name != "yaml.safe_load":
            found.append(f"calls {name}")
        if given.get("shell", "False") != "False":
            found.append(f"calls {name} with a shell")
        if given.get("allow_pickle", "False") != "False":
            found.append(f"calls {name} with allow_pickle")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_that_is_read_can_run_code(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "import pickle",
            "from yaml import load",
            "yaml.load('x')",
            "eval('1')",
            "exec(open('x').read())",
        ),
        *("torch.load('x')", "torch.load('x', weights_only=False)", "np.load('x')"),
        *("np.load('x', allow_pickle=True)", "subprocess.run('x', shell=True)", "os.system('x')"),
    ],
)
def test_each_of_them_would_be_found(code):
    assert dangers(code)


def test_python_files_are_all_looked_at():
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "*.py"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no git, or no repository, here")
    known = {str(path.relative_to(ROOT)) for path in SOURCES}
    left = [name for name in listed.stdout.splitlines() if not name.startswith("tests/")]
    assert set(left) <= known


# The rooms of common/ from the top floor down: a room imports from lower floors alone. `vocabulary`
# is the modules that lie flat. The scripts stand above, the drawn world apart: nothing imports it.
FLOORS = (
    ("demo",),
    ("prepare", "training"),
    ("submission",),
    ("raw",),
    ("batches", "networks", "faces"),
    ("vocabulary",),
    ("script",),
)
FLOOR_OF = {room: -number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("common/**/*.py")
}


def room_of(module: str) -> str:
    """Return the room of a module of common/."""
    room = module.split(".")[1]
    return room if (ROOT / "common" / room).is_dir() else "vocabulary"


def imported(source: str) -> set[str]:
    """Return the modules of common/ that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                below = f"{node.module}.{name.name}"
                found.add(below if below in MODULES else node.module)
    return {name for name in found if name.startswith("common.")}


def test_each_room_imports_from_the_floors_below_it_alone():
    upward = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imported(path.read_text(encoding="utf-8"))
        if module != "common" and room_of(other) != room_of(module)
        if FLOOR_OF[room_of(other)] >= FLOOR_OF[room_of(module)]
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imported(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_module_and_test_that_the_documents_name_exists():
    named = re.compile(r"\b(?:common|tests|benchmarks|configs|docs)/[\w./-]*\w|\b0\d_\w+\.py")
    for path in (ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/*.md")):
        missing = {
            name
            for name in named.findall(path.read_text(encoding="utf-8"))
            if not (ROOT / name).exists()
        }
        assert not missing, path


def test_only_tables_of_data_are_laid_out_by_hand():
    by_hand = {
        str(path.relative_to(ROOT))
        for path in [*SOURCES, *ROOT.glob("tests/**/*.py")]
        if re.search(r"# fmt: (skip|off)", path.read_text(encoding="utf-8"))
    }
    tables = {"benchmarks/paper_rows.py", "common/demo/hair.py", "common/demo/head.py"}
    assert by_hand <= tables


def test_every_bar_is_one_that_a_log_shows_too():
    barred = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("common/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tqdm", "tqdm.tqdm", "trange")
    }
    assert barred == {"common/script/progress.py"}
