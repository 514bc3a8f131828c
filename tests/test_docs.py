"""What the README and docs/ say can be done as they say it: commands, flags, links, sizes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers.docs import PAGES, SCRIPTS, blocks_of, make_world
from helpers.running import ROOT, run_warm
from PIL import Image

from benchmarks.paper_rows import SECTIONS

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*\w")
LIMITS = {"README.md": 170, "CONTRIBUTING.md": 60, "CHANGELOG.md": 80}
# Of programs that are not ours: accelerate, torchrun, pip, sbatch, git.
FOREIGN = {
    *("--config_file", "--nproc-per-node", "--no-deps", "--array", "--gpus", "--cpus-per-task"),
    *("--wrap", "--num_processes", "--system-site-packages", "--nnodes", "--nodes"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small world, after the commands of the README."""
    folder = make_world(tmp_path_factory.mktemp("docs") / "world")
    walk(folder, ROOT / "README.md")
    return folder


def walk(folder: Path, page: Path, slow: bool = False) -> None:
    """Run the marked blocks of a page in a folder, one after the other; slow ones by a shell."""
    for block in blocks_of(page):
        if not block.marked or (block.slow and not slow):
            continue
        log = folder / f"{page.stem}-{block.line}.log"
        if block.python:
            script = log.with_suffix(".py")
            script.write_text(block.text)
            run_warm(log, script, PWD=str(folder))
        elif block.slow:
            environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
            environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
            command = ["bash", "-euc", block.text]
            with log.open("w") as file:
                status = subprocess.call(
                    command, cwd=folder, env=environment, stdout=file, stderr=file
                )
            assert status == 0, log.read_text()
        else:
            for python, script, *words in block.commands():
                assert python == "python", block
                run_warm(log, script, *words, PWD=str(folder))


def test_the_commands_of_the_readme_lead_to_a_checked_submission(world):
    assert (world / "runs" / "paper" / "submission" / "predictions.txt").exists()
    assert "valid" in "".join(log.read_text() for log in world.glob("README-*.log"))
    assert (world / "runs" / "paper" / "submission" / "tuned.toml").exists()


@pytest.mark.slow
def test_the_commands_of_the_curriculum_page_judge_out_of_fold(world, tmp_path):
    copy = shutil.copytree(world, tmp_path / "world", symlinks=True)
    walk(copy, ROOT / "docs" / "curriculum.md", slow=True)
    assert (copy / "runs" / "folds" / "curriculum" / "folds" / "report.json").exists()
    assert (copy / "runs" / "folds" / "submission" / "predictions.txt").exists()


def test_the_cookbooks_afternoon_runs(world, tmp_path):
    copy = shutil.copytree(world, tmp_path / "world", symlinks=True)
    walk(copy, ROOT / "docs" / "cookbook.md")
    for rule in ("box", "facs"):
        report = json.loads((copy / "runs" / rule / "curriculum/folds/report.json").read_text())
        assert 0 <= report["macro_f1"] <= 1
    assert (copy / "runs" / "look" / "curriculum" / "generated.png").exists()


@pytest.mark.slow
def test_the_cookbooks_two_days_run(tmp_path):
    folder = make_world(tmp_path / "world")
    walk(folder, ROOT / "docs" / "cookbook.md", slow=True)
    assert (folder / "runs" / "final" / "submission" / "predictions.txt").exists()


def test_every_marked_block_is_run_by_a_test():
    marked = {page.name for page in PAGES for block in blocks_of(page) if block.marked}
    assert marked == {"README.md", "curriculum.md", "cookbook.md"}


@cache
def flags_of(script: str) -> set[str]:
    """Return the flags of a script, by its --help, or of a benchmark, by its source: quicker."""
    if script in SCRIPTS:
        command = [sys.executable, ROOT / script, "--help"]
        help = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return set(FLAG.findall(help)) | {"--help"}
    source = (ROOT / script).read_text(encoding="utf-8")
    flags = set(re.findall(r'"(--[a-z-]+)"', source))
    return flags | {f"--no-{flag[2:]}" for flag in flags if "BooleanOptionalAction" in source}


def spoken(line: str) -> tuple[str | None, set[str]]:
    """Return the script that a line names, if there is one, and the flags up to a `--`."""
    named = re.search(r"\b(0\d_\w+\.py|(?:benchmarks|tests)/\w+\.py|common\.demo)\b", line)
    short = re.match(r"(0[1-5]) ", line)
    script = named and named[1].replace("common.demo", "common/demo/__main__.py")
    if short:
        script = next(name for name in SCRIPTS if name.startswith(short[1]))
    rest = re.split(r" -- | #|\| ", line[named.end() :] if named else line)[0]
    return script, set(FLAG.findall(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_a_page_names_exists(page):
    every = FOREIGN.union(*map(flags_of, SCRIPTS))
    for path in [*ROOT.glob("benchmarks/*.py"), ROOT / "common" / "demo" / "__main__.py"]:
        every |= flags_of(str(path.relative_to(ROOT)))
    blocks = blocks_of(page)
    lines = [line for block in blocks for line in block.text.replace("\\\n", " ").splitlines()]
    prose = page.read_text(encoding="utf-8")
    lines += re.findall(r"`([^`\n]+)`", prose)
    for line in lines:
        script, flags = spoken(line)
        assert flags <= (flags_of(script) | FOREIGN if script else every), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_that_a_page_names_is_one_of_paper_tables(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    named = set(" ".join(re.findall(r"--rows((?:[ \n][a-z]+\d?\b)+)", text)).split())
    if page.name == "paper_tables.md":  # its index of them
        index = re.search(r"rows \(`--rows`\) \|\n.*\n((?:\|.*\n)+)", text)[1]
        cells = [line.split("|")[2] for line in index.splitlines()]
        found = [re.findall(r"`([a-z]+\d?)`", cell) for cell in cells]
        assert all(found), "a row of the index without a table"
        named |= {name for names in found for name in names}
    assert named <= set(SECTIONS), named - set(SECTIONS)


def anchor(title: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, place = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.M) if place else []
        assert not place or place in map(anchor, titles), target


def test_every_page_is_in_the_index_and_every_picture_on_a_page():
    text = {page: page.read_text(encoding="utf-8") for page in PAGES}
    index = text[ROOT / "README.md"]
    assert not [p for p in ROOT.glob("docs/*.md") if f"](docs/{p.name})" not in index]
    pictures = [*ROOT.glob("docs/*.png"), *ROOT.glob("docs/**/*.jpg"), *ROOT.glob("docs/images/*")]
    assert pictures and not [p for p in pictures if not any(p.name in t for t in text.values())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) < LIMITS.get(page.name, 300)


def test_pictures_are_small_files_and_wide_enough():
    for path in ROOT.glob("docs/images/*.png"):
        with Image.open(path) as picture:
            assert picture.width >= 800, path
        assert path.stat().st_size < 150_000, path
