"""The paper's tables: their statistics, their rows as 04 reads them, and a row run once."""

import json
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.running import ROOT, forked_run, record, start_warm, wait_for
from helpers.toy_world import TINY, make_ferplus, make_prepared
from scipy.stats import ttest_rel

from benchmarks.comparison import (
    Section,
    difference,
    differences,
    markdown,
    means,
    save_plot,
    scores_of,
)
from benchmarks.derived_data import add_pseudo_labels, keep_part
from benchmarks.paper_rows import PAPER, RUNS, SECTIONS, WITHOUT_VOTES, without_votes
from benchmarks.paper_runs import MEASURES, Row, commands_of, run_row
from benchmarks.paper_tables import check_world, main
from common.emotions import CHALLENGE
from common.manifest import read_manifest
from common.networks.classifier import create_classifier, create_encoder
from common.networks.weights import save_model
from common.script.files import UserError
from common.splits import hold_out
from common.submission.files import locate
from common.training.checks import check_curriculum_settings


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    rows = [
        {"row": row, "world": f"w{world}", "seed": seed, "score": base + random.normal(0, 0.02)}
        for row, base in (("plain", 0.5), ("better", 0.6), ("same", 0.5))
        for world in range(2)
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_difference_has_the_interval_of_a_paired_t_test(table):
    better, plain = scores_of(table, "better"), scores_of(table, "plain")
    mean, half, pairs = difference(better, plain)
    interval = ttest_rel(better, plain).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))
    assert pairs == 6
    # a run that its partner lacks is no pair
    assert difference(better.drop(("w0", 1)), plain)[2] == 5
    assert difference(better.iloc[:1], plain) == (better.iloc[0] - plain.iloc[0], np.inf, 1)


def test_a_table_shows_the_papers_values_and_marks_what_is_beyond_chance(table, tmp_path):
    rows = [("plain", "plain", 0.66), ("better", "better", 0.68), ("same", "same", 0.67)]
    section = Section("A table", [*rows, ("later", "later", 0.7)])
    lines = markdown(section, table).splitlines()
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|") == 6
    mean = table.score[table["row"] == "better"].mean()
    error = table.score[table["row"] == "better"].std() / np.sqrt(6)
    assert f"| better | 0.6800 | {mean:.3f} ± {error:.3f} | 6 | **+0." in lines[5]
    assert "**" not in lines[6] and "| later | 0.7000 | – | 0 | – |" in lines[7]
    # two and two, each second row beside the one above it
    section = Section("A table", [*rows[:2], *rows[1:]][:4], pairs=True)
    lines = markdown(section, table).splitlines()
    assert [line.endswith("|  |") for line in lines[4:]] == [True, False, True, False]
    assert "row above" in lines[2] and "**+0." in lines[5] and "**−0." in lines[7]
    save_plot(tmp_path / "plot.png", [section, section], table)
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_tables_of_several_scores_have_a_mean_and_a_difference_for_each(table):
    table = table.assign(five=table.score + 0.1 * (table["row"] == "better"), accuracy=None)
    rows = [("plain", "plain", 0.66), ("better", "better", None), ("same", "same", None)]
    measures = ("score", "five", "accuracy")
    lines = means(Section("A table", rows), table, measures).splitlines()
    five = table.five[table["row"] == "better"]
    expected = f"| {five.mean():.3f} ± {five.std() / np.sqrt(6):.3f} | – |"
    assert lines[2].endswith("| score | five | accuracy |") and lines[5].endswith(expected)
    assert lines[5].startswith("| better | 6 | ")
    lines = differences(Section("A table", rows), table, measures).splitlines()
    mean, half, _ = difference(scores_of(table, "better"), scores_of(table, "plain"))
    cells = lines[4].split(" | ")
    assert cells[:2] == ["| better", "6"] and cells[-1] == "– |"
    assert cells[2] == f"**{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})**"
    assert cells[3].startswith(f"**{mean + 0.1:+.3f}")
    assert len(lines) == 6  # none of the first row to itself
    paired = differences(Section("A table", [*rows[:2], rows[0], rows[2]], True), table, measures)
    assert [line.split(" | ")[0] for line in paired.splitlines()[4:]] == ["| better", "| same"]


def test_every_row_is_a_run_whose_settings_04_accepts(monkeypatch):
    sections = [*SECTIONS.values(), *map(without_votes, WITHOUT_VOTES)]
    named = {run for section in sections for _, run, _ in section.rows}
    assert named | {variant.start for variant in RUNS.values()} == set(RUNS)
    before = runpy.run_path(str(ROOT / "03_finetune_single.py"))
    script = runpy.run_path(str(ROOT / "04_curriculum.py"))
    shown = []
    for name, variant in RUNS.items():
        monkeypatch.setattr(
            sys, "argv", ["03_finetune_single.py", *shlex.split(variant.single or "")]
        )
        single = before["arguments"]()
        network = single.model_options
        if variant.flags is None:
            continue
        flags = [*shlex.split(PAPER), *shlex.split(variant.flags)]
        monkeypatch.setattr(sys, "argv", ["04_curriculum.py", *flags])
        args = script["arguments"]()
        own = shlex.split(RUNS[variant.start].single or "")  # of the same loss as its 03
        assert args.loss == (own[own.index("--loss") + 1] if own else "bce")
        assert variant.votes == RUNS[variant.start].votes
        check_curriculum_settings(args)
        assert args.model_options == network  # 04 starts from the network of 03
        steps = zip(args.stage_epochs, args.compound_shares, strict=True)
        shown.append((name, sum(args.stage_epochs), sum(e * s for e, s in steps)))
    # equal steps are equal, and the control without order shows as many compounds
    epochs = {name: total for name, total, _ in shown}
    assert {epochs[run] for _, run, _ in SECTIONS["equal"].rows} == {16}
    compounds = {name: amount for name, _, amount in shown}
    assert compounds["constant"] == pytest.approx(compounds["curriculum"])
    assert compounds["natural, no order"] == pytest.approx(compounds["natural, singles too"])
    assert epochs["reversed"] == epochs["curriculum"] == epochs["constant"]


def test_a_row_may_decide_anew_with_the_network_of_another(monkeypatch):
    row = Row(
        folder=Path("row"),
        world="data:run",
        seed=3,
        name="half prior",
        config=ROOT / "configs/demo.toml",
        data="demo",
        extra=["--lr", "1"],
        other=Path("other"),
    )
    commands, result = commands_of(row)
    assert result == Path("row/submission/score.json")
    (command,) = commands  # nothing is trained
    monkeypatch.setattr(sys, "argv", command)
    args = runpy.run_path(str(ROOT / command[0]))["arguments"]()
    assert (args.prior_correction, args.smooth, args.run_dir) == (0.5, "none", Path("row"))
    assert args.checkpoints == [Path("other/curriculum/model.safetensors")]
    assert (args.data_dir, args.truth) == (Path("data"), Path("data/truth.csv"))


def test_a_row_is_run_once_and_read_from_then_on(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", forked_run(tmp_path / "log"))
    make_prepared(tmp_path / "data")
    options = dict(patch_size=4, embed_dim=16, depth=1, num_heads=2)
    (tmp_path / "run" / "single").mkdir(parents=True)
    save_model(tmp_path / "run" / "single", create_classifier(TINY[1], 16, options))
    (tmp_path / "recipe.toml").write_text("[curriculum]\n")
    row = Row(
        folder=tmp_path / "row",
        world=f"{tmp_path / 'data'}:{tmp_path / 'run'}",
        seed=3,
        name="facs",
        config=tmp_path / "recipe.toml",
        data="own",
        extra=[*TINY, "--epoch-images", "12"],
    )
    scores, seconds = run_row(row, threads=1)
    report = json.loads((tmp_path / "row" / "curriculum" / "report.json").read_text())
    assert scores == {"score": report["macro_f1"]} and seconds > 0
    settings = record(tmp_path / "row" / "curriculum")["settings"]
    assert (settings["keep"], settings["seed"], settings["cutmix"]) == ("last", 3, "facs")
    # it is not taken for the row of another recipe
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[curriculum]\njitter = 0.5\n")
    with pytest.raises(UserError, match="jitter"):
        run_row(row, threads=1)
    recipe.write_text("[curriculum]\n")
    # what is there is not run again: what it started from need not be there
    start = tmp_path / "run" / "single" / "model.safetensors"
    start.unlink()
    assert run_row(row, threads=1) == (scores, seconds)
    # but it is not taken for the row of another classifier
    save_model(start.parent, create_classifier(TINY[1], 16, options))
    with pytest.raises(UserError, match="had other weights"):
        run_row(row, threads=1)
    with pytest.raises(UserError, match=r"04_curriculum.py .* failed"):
        run_row(row._replace(extra=["--no-such-flag"]), threads=1)


def test_a_row_on_ferplus_starts_from_a_03_of_its_seed_and_has_the_protocols_scores(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(subprocess, "run", forked_run(tmp_path / "log"))
    world = make_ferplus(tmp_path / "data")
    recipe = tmp_path / "recipe.toml"
    network = "patch_size = 4\nembed_dim = 16\ndepth = 1\nnum_heads = 2"
    recipe.write_text(
        "[common]\nloss = 'softmax'\nmodel = 'vit_tiny_patch16_224'\nimage_size = 16\n"
        f"workers = 0\n[common.model_options]\n{network}\n"
        "[finetune_single]\ninit = 'none'\nadapt_epochs = 0\n"
    )
    start = Row(tmp_path / "start", str(world), 3, "03, labels", recipe, "FERPlus", [])
    start = start._replace(single=("--epochs", "2", "--lr", "3e-3"))
    scores, _ = run_row(start, threads=1)
    assert set(scores) == {"score", *MEASURES} and scores["score"] == scores["seven"]
    assert record(tmp_path / "start" / "single")["settings"]["epochs"] == 2
    extra = ["--epoch-images", "12"]
    row = Row(tmp_path / "row", str(world), 3, "curriculum, labels", recipe, "FERPlus", extra)
    row = row._replace(start=tmp_path / "start")
    scores, _ = run_row(row, threads=1)
    report = json.loads((tmp_path / "row" / "curriculum" / "report.json").read_text())
    settings = record(tmp_path / "row" / "curriculum")["settings"]
    assert settings["init"] == str(tmp_path / "start" / "single" / "model.safetensors")
    assert (settings["stage_epochs"], settings["keep"]) == ([5, 5, 3, 3], "last")
    assert 0 < scores["accuracy"] < 1 and report["frames"] > 0
    # neither has seen a vote; the images, labels and splits are the same
    seen = read_manifest(tmp_path / "row" / "prepared" / "manifest.csv")
    whole = read_manifest(world / "prepared" / "manifest.csv")
    assert "votes" in whole and seen.equals(whole.drop(columns="votes"))
    # with folds, each fold of 04 starts from that fold's 03
    commands, _ = commands_of(row._replace(folds=5))
    assert f"--init {tmp_path}/start/single --folds 5" in shlex.join(commands[0])
    assert commands_of(start._replace(folds=5))[0][0][-2:] == ["--folds", "5"]


def test_a_signal_ends_the_row_under_way_too(tmp_path):
    world, recipe = make_ferplus(tmp_path / "data"), tmp_path / "recipe.toml"
    recipe.write_text(
        "[common]\nloss = 'softmax'\nmodel = 'cnn_small'\nimage_size = 16\nworkers = 0\n"
        "[finetune_single]\ninit = 'none'\nadapt_epochs = 0\nepochs = 9999\n"
    )
    flags = ["--data", "FERPlus", "--worlds", world, "--config", recipe, "--rows", "votes"]
    flags += ["--seeds", "0", "--out", tmp_path / "out"]
    tables = start_warm(tmp_path / "log", "benchmarks/paper_tables.py", *flags)
    single = tmp_path / "out" / "03" / "data" / "0" / "single"
    assert wait_for((single / "metrics.csv").is_file, tables, 60), (tmp_path / "log").read_text()
    tables.terminate()
    tables.join(60)
    assert tables.exitcode == 143 and "Stopped by SIGTERM" in (tmp_path / "log").read_text()
    assert not Path("/proc", (single / ".lock").read_text().split()[0]).exists()
    assert list(single.glob("state/*.pt"))


@pytest.mark.parametrize(
    "flags", (["--rows", "votes"], ["--no-votes", "--rows", "controls", "settings"])
)
def test_a_world_without_a_run_trains_a_03_for_each_seed(tmp_path, monkeypatch, flags):
    world, rows = make_ferplus(tmp_path / "data"), []

    def note(row, threads):
        rows.append(row)
        return {"score": 0.5, **dict.fromkeys(MEASURES, 0.5)}, 1.0

    monkeypatch.setattr("benchmarks.paper_tables.run_row", note)
    monkeypatch.chdir(tmp_path)
    alone = "--no-votes" in flags
    flags = ["--data", "FERPlus", "--worlds", str(world), "--seeds", "0", "1", "--quick", *flags]
    flags += ["--folds", "2"]
    monkeypatch.setattr(sys, "argv", ["paper_tables.py", *flags])
    main()
    made = {(row.name, row.seed): row for row in rows}
    for (name, seed), row in made.items():
        variant = RUNS[name]
        assert not (alone and variant.votes)
        expected = None if variant.flags is None else made[variant.start, seed].folder
        assert row.start == expected and row.folds == 2 and row.config.name == "ferplus.toml"
        assert "--epochs" in row.single and "--epoch-images" in row.extra
    folder = f"paper_tables-ferplus{'-labels' * alone}-quick"
    text = (tmp_path / "runs" / folder / "paper_tables.md").read_text()
    assert ("Labels alone, without votes." in text) == alone
    assert "out of fold (2 folds)" in text and "| accuracy | six | seven | five |" in text
    for flags, message in (
        (["--data", "own", "--worlds", str(world)], "name its run too"),
        (["--data", "FERPlus", "--worlds", str(world), "--rows", "sizes"], "needs a run"),
        (["--data", "own", "--worlds", f"{world}:x", "--folds", "2"], "--folds is for"),
        (["--no-votes", "--worlds", f"{world}:x"], "--no-votes is for"),
        (["--data", "FERPlus", "--no-votes", "--rows", "order"], "order is not among them"),
        (["--data", "FERPlus", "--no-votes", "--rows", "equal"], "equal is not among them"),
        (["--data", "FERPlus", "--no-votes", "--worlds", f"{world}:x"], "the data folder alone"),
    ):
        monkeypatch.setattr(sys, "argv", ["paper_tables.py", *flags])
        with pytest.raises(UserError, match=message):
            main()


def test_a_row_may_train_its_own_classifier_on_a_part_of_the_persons(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", forked_run(tmp_path / "log"))
    make_prepared(tmp_path / "data")
    (tmp_path / "run" / "mae").mkdir(parents=True)
    options = dict(patch_size=4, embed_dim=16, depth=1, num_heads=2)
    save_model(tmp_path / "run" / "mae", create_encoder(TINY[1], 16, options))
    network = "model = 'vit_tiny_patch16_224'\nimage_size = 16\n[common.model_options]\n"
    network += "\n".join(f"{key} = {value}" for key, value in options.items())
    epochs = "adapt_epochs = 1\nepochs = 3"
    (tmp_path / "recipe.toml").write_text(f"[common]\n{network}\n[finetune_single]\n{epochs}\n")
    row = Row(
        folder=tmp_path / "row",
        world=f"{tmp_path / 'data'}:{tmp_path / 'run'}",
        seed=3,
        name="facs, half",
        config=tmp_path / "recipe.toml",
        data="own",
        extra=["--epoch-images", "12"],
    )
    scores, _ = run_row(row, threads=1)
    report = json.loads((row.folder / "curriculum" / "report.json").read_text())
    assert scores == {"score": report["macro_f1"]}
    # half the persons, twice the epochs; what validates, and what 03 adapts on, is all there
    settings = record(row.folder / "single")["settings"]
    assert settings["epochs"] == 6
    plain = shlex.join(commands_of(row._replace(extra=[]))[0][1])
    assert "--epoch-images 36" in plain  # of the whole set
    assert settings["init"] == f"{tmp_path / 'run'}/mae/model.safetensors"
    started = record(row.folder / "curriculum")["settings"]["init"]
    assert started == f"{row.folder}/single/model.safetensors"
    all_of_it = read_manifest(tmp_path / "data" / "prepared" / "manifest.csv")
    kept = read_manifest(row.folder / "prepared" / "manifest.csv")
    singles = (all_of_it.dataset == "Toy") & (all_of_it.split == "train")
    left_out = ~all_of_it.image.isin(kept.image)
    assert not (left_out & ~singles).any()
    assert (singles & left_out).sum() == pytest.approx(singles.sum() / 2, abs=3)


def test_a_part_of_a_set_without_splits_holds_out_whom_the_whole_does(tmp_path):
    table = pd.read_csv(make_prepared(tmp_path / "data") / "prepared" / "manifest.csv")
    table["split"] = ""
    table.to_csv(tmp_path / "data" / "prepared" / "manifest.csv", index=False)
    whole = read_manifest(tmp_path / "data" / "prepared" / "manifest.csv")
    keep_part(tmp_path / "part", tmp_path / "data", parts=3, seed=1)
    part = read_manifest(tmp_path / "part" / "prepared" / "manifest.csv")
    assert len(part) < len(whole)
    assert set(part.image[hold_out(part)]) == set(whole.image[hold_out(whole)])


def test_the_frames_a_model_is_surest_of_become_compounds(tmp_path):
    prepared = make_prepared(tmp_path / "data") / "prepared"
    frames = [("01", number) for number in range(1, 9)] + [("02", number) for number in range(1, 5)]
    (prepared / "crops").mkdir()
    image = next((prepared / "images" / "Toy").iterdir())
    lines = ["video,frame,image,box,score"]
    for video, number in frames:
        found = (video, number) != ("01", 8)  # no face: no crop to learn from
        name = f"crops/{video}-{number}.png"
        shutil.copy(image, prepared / name)
        lines.append(f"{video},{number},{name if found else ''},,")
    (prepared / "frames.csv").write_text("\n".join(lines) + "\n")
    seen = pd.DataFrame({"image_location": [locate(*frame) for frame in frames]})
    seen[list(CHALLENGE)] = 0.1
    decisions = np.array([0] * 8 + [6] * 4)
    for row, decision in enumerate(decisions):  # from the surest down, in each class
        seen.loc[row, CHALLENGE[decision]] = 0.9 - row / 100
    seen.assign(decision=decisions).to_csv(tmp_path / "probabilities.csv", index=False)
    add_pseudo_labels(tmp_path / "row", tmp_path / "data", tmp_path / "probabilities.csv")
    table = read_manifest(tmp_path / "row" / "prepared" / "manifest.csv")
    added = table[table.dataset == "pseudo"]
    plain = read_manifest(prepared / "manifest.csv")
    assert table.image[table.dataset != "pseudo"].tolist() == plain.image.tolist()
    shown = sorted(zip(added.image, added.labels.astype(str), strict=True))
    # half of each class: of seven frames with a face three, of four two
    assert shown == [
        *[(f"crops/01-{number}.png", "Fear Surprise") for number in (1, 2, 3)],
        *[(f"crops/02-{number}.png", "Anger Sadness") for number in (1, 2)],
    ]
    assert set(added.split) == {"train"} and set(added.subject) == {"challenge 01", "challenge 02"}
    assert (tmp_path / "row" / "prepared" / "crops" / "02-1.png").is_file()


def test_what_a_world_lacks_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    make_prepared(tmp_path / "data")
    world = f"{tmp_path / 'data'}:{tmp_path / 'run'}"
    for name in ("single", "mae"):
        with pytest.raises(UserError, match=f"there is no .*{name}"):
            check_world(world, "own", {"single", "mae"} if name == "mae" else {"single"})
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "model.safetensors").touch()
    check_world(world, "Toy-compound", {"single", "mae"})
    with pytest.raises(UserError, match=r"no held-out compound .* in it; it has some of Toy-comp"):
        check_world(world, "MAFW", {"single"})
    # a short look and the whole have folders of their own
    monkeypatch.setattr(
        "benchmarks.paper_tables.run_row", lambda row, threads: ({"score": 0.5}, 1.0)
    )
    monkeypatch.chdir(tmp_path)
    for more in (["--quick"], ["--rows", "table1"]):
        flags = ["--data", "own", "--worlds", world, "--seeds", "1", "1", *more]
        monkeypatch.setattr(sys, "argv", ["paper_tables.py", *flags])
        main()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "paper_tables",
        "paper_tables-quick",
    ]
    assert len(pd.read_csv(tmp_path / "runs" / "paper_tables" / "results.csv")) == 3


def test_rows_that_end_at_the_same_time_are_all_in_the_results(tmp_path, monkeypatch):
    make_prepared(tmp_path / "data")
    (tmp_path / "run" / "single").mkdir(parents=True)
    (tmp_path / "run" / "single" / "model.safetensors").touch()
    world, out, seeds = f"{tmp_path / 'data'}:{tmp_path / 'run'}", tmp_path / "out", range(12)
    runs = {run for _, run, _ in SECTIONS["table1"].rows}
    for run in runs:
        for seed in seeds:
            folder = out / run / "data" / str(seed)
            folder.mkdir(parents=True)
            commands, _ = commands_of(Row(folder, world, seed, run, ROOT / "own.toml", "own", []))
            row = {"commands": commands, "scores": {"score": seed / 100}, "seconds": 1.0}
            (folder / "row.json").write_text(json.dumps(row))
    flags = ["--data", "own", "--worlds", world, "--config", ROOT / "own.toml", "--out", out]
    flags += ["--rows", "table1", "--jobs", 8, "--seeds", *seeds]
    monkeypatch.setattr(sys, "argv", ["paper_tables.py", *map(str, flags)])
    main()
    table = pd.read_csv(out / "results.csv")
    assert sorted(zip(table["row"], table["seed"], strict=True)) == [
        (run, seed) for run in sorted(runs) for seed in seeds
    ]
    assert (table["score"] == table["seed"] / 100).all()
