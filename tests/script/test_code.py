"""What our code must not contain: ways for a file to run code."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("common/**/*.py"), *ROOT.glob("benchmarks/*.py")]
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
