"""What is fuzzed: small valid inputs, and how each kind is read when one file of it is damaged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from helpers.damage import TEXTS, damage
from helpers.running import ROOT, run_here

# The small inputs are full of faults, and their plain images all alike.
KEEP = ("--workers", 0, "--accept-losses", "--duplicates", "keep", "--min-sharpness", 0)


def make_seeds(place: Path) -> None:
    """Write a small valid input of each kind."""
    import torch
    from helpers.drawn import scene, write_video
    from helpers.raw_files import image
    from helpers.raw_trees import TREES
    from PIL import Image

    from common.emotions import CHALLENGE
    from common.networks.classifier import create_classifier
    from common.networks.weights import save_model
    from common.training.states import States

    for name, (build, _) in TREES.items():
        build(place / "raw" / name)
    header = ",".join(("image_location", *CHALLENGE))
    listed = f"{header}\n01/00001.jpg,\n01/00002.jpg,\n"
    (place / "raw" / "C-EXPR-DB" / "CER.txt").write_text(listed)
    for number in range(3):
        image(place / "good" / f"{number}.jpg", side=24)
    # What of each data set is used when nothing is damaged.
    used = {}
    for tree in filter(Path.is_dir, (place / "raw").iterdir()):
        box = place / "box"
        shutil.copytree(tree, box / "raw" / tree.name)
        run_here("01_prepare_data.py", "--data-dir", box, *KEEP, "--align", "never")
        used[tree.name] = sorted(images_of(box))
        if tree.name == "CelebA":
            shutil.copytree(place / "good", box / "raw" / "Good")
            shutil.copytree(place / "raw" / "C-EXPR-DB", box / "raw" / "C-EXPR-DB")
            run_here("01_prepare_data.py", "--data-dir", box, *KEEP)
            box.rename(place / "world")
        else:
            shutil.rmtree(box)
    (place / "baseline.json").write_text(json.dumps(used))

    (place / "images").mkdir()
    picture = Image.fromarray(scene((120, 110, 150), size=(240, 220)))
    picture.resize((60, 56)).save(place / "images" / "plain.jpg")
    exif = Image.Exif()
    exif[274] = 6
    picture.save(place / "images" / "turned.jpg", exif=exif, progressive=True)
    picture.convert("CMYK").save(place / "images" / "cmyk.jpg")
    for ending in ("png", "webp", "gif", "bmp", "tiff", "ppm", "jp2", "avif"):
        picture.save(place / "images" / f"plain.{ending}")
    picture.convert("P").save(place / "images" / "palette.png")
    (place / "videos").mkdir()
    for ending, codec in (("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx")):
        pictures = [scene((100 + n, 100, 90), size=(192, 160)) for n in range(6)]
        write_video(place / "videos" / f"film.{ending}", pictures, codec)

    (place / "tables").mkdir()
    frames = [f"0{v}/0000{f}.jpg" for v in (1, 2) for f in (1, 2)]
    for name, lines in {
        "list.txt": [header, *(f"{frame}," for frame in frames)],
        "check.txt": [header, *(f"{frame},{n}" for n, frame in enumerate(frames))],
        "truth.csv": ["image_location,label", *(f"{frame},{n}" for n, frame in enumerate(frames))],
    }.items():
        (place / "tables" / name).write_text("\n".join([*lines, ""]))
    for name in ("frames.csv", "manifest.csv"):
        shutil.copy(place / "world" / "prepared" / name, place / "tables")
    shutil.copy(ROOT / "configs" / "demo.toml", place / "tables" / "recipe.toml")

    shape = (
        "vit_tiny_patch16_224",
        16,
        {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2},
    )
    network = create_classifier(*shape)
    (place / "weights").mkdir()
    save_model(place / "weights", network)
    torch.save({"model": network.state_dict()}, place / "weights" / "model.pth")
    settings = dict(zip(("model", "image_size", "model_options"), shape, strict=True))
    settings |= {"mean": [0.5] * 3, "std": [0.2] * 3}
    (place / "weights" / "run.json").write_text(
        json.dumps({"settings": settings, "finished": True})
    )
    shutil.copy(place / "weights" / "run.json", place / "tables")

    network = torch.nn.Linear(3, 2)
    states = States(quiet_run(place), "fuzz", network, torch.optim.AdamW(network.parameters()))
    for step in (1, 2):
        network.weight.data.fill_(step)
        progress = {"epoch": 0, "step": step, "steps_done": step, "sums": [0.0] * 3, "rows": []}
        states.write({**progress, "best": None, "seconds": 0.0, "unreadable": []})


def raw_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """Script 01 on a data set with one damaged file, beside a whole data set."""
    tree = chance.choice(sorted(p.name for p in (seeds / "raw").iterdir() if p.is_dir()))
    shutil.copytree(seeds / "raw" / tree, box / "raw" / tree)
    shutil.copytree(seeds / "good", box / "raw" / "Good")
    files = sorted(p for p in (box / "raw" / tree).rglob("*") if p.is_file())
    lists = [path for path in files if path.suffix in (*TEXTS, ".npy", ".mat", ".rec")]
    path = chance.choice(lists if lists and chance.random() < 0.8 else files)
    before = path.read_bytes()
    path.write_bytes(damage(before, chance, path.suffix in TEXTS))
    align = "auto" if chance.random() < 0.05 else "never"
    run_here("01_prepare_data.py", "--data-dir", box, *KEEP, "--align", align)
    found = images_of(box)
    good = {f"images/Good/{path.name}" for path in (seeds / "good").iterdir()}
    assert good <= found, f"lost neighbours in another data set: {sorted(good - found)}"
    # Of one damaged image, its neighbours in the same data set too.
    if path.suffix.lower() in (".jpg", ".png"):
        baseline = json.loads((seeds / "baseline.json").read_text())[tree]
        # One file may hold several faces, or stand in several lists.
        lost = {image for image in set(baseline) - found if path.stem not in image}
        assert not lost, f"lost neighbours of {path.name}: {sorted(lost)[:3]}"
    return f"{tree}: {path.name}"


def images_of(box: Path) -> set[str]:
    """Return the images of a prepared folder's manifest, none where there is no manifest."""
    from common.manifest import read_manifest

    path = box / "prepared" / "manifest.csv"
    return set(read_manifest(path)["image"]) if path.exists() else set()


def image_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """A damaged image between two good ones, as a worker of 01 takes them; training's decoder."""
    from common.batches.images import ImageStore
    from common.prepare.ingest import Options, ingest
    from common.raw.layout import Item

    names = sorted(p.name for p in (seeds / "images").iterdir())
    name = chance.choice(names)
    (box / "raw").mkdir()
    items = []
    for number, seed in enumerate(("plain.jpg", name, "plain.jpg")):
        path = box / "raw" / f"{number}{Path(seed).suffix}"
        content = (seeds / "images" / seed).read_bytes()
        path.write_bytes(damage(content, chance, False) if number == 1 else content)
        items.append(Item(str(path), f"{number}.jpg", "Fuzz"))
    options = Options(str(box / "raw"), str(box / "prepared"), 16, "", 0.4, (160,))
    records = ingest(items, chance.random() < 0.1, options)
    assert [bool(r.reason) for r in records[::2]] == [False, False], "lost a neighbour"
    if not records[1].reason:
        assert ImageStore(box / "prepared", [records[1].image]).read(0) is not None
    ImageStore(box / "raw", [Path(items[1].path).name]).read(0)  # as after damage on the disk
    return name


def video_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """A damaged film, as 01 and 05 crop it."""
    from common.prepare.ingest import Options, ingest_video

    name = chance.choice(sorted(p.name for p in (seeds / "videos").iterdir()))
    path = box / "raw" / name
    path.parent.mkdir()
    path.write_bytes(damage((seeds / "videos" / name).read_bytes(), chance, False))
    options = Options(str(box / "raw"), str(box / "prepared"), 16, "", 0.4, (160,))
    result = ingest_video(str(path), "film", options)
    assert result["rows"] or result["complaint"]
    return name


def prepared_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """Script 01 again on a prepared folder with one damaged record; it must end as before."""
    shutil.copytree(seeds / "world", box, dirs_exist_ok=True)
    files = sorted(
        p for p in (box / "prepared").rglob("*") if p.suffix in (".csv", ".json", ".txt")
    )
    path = chance.choice(files)
    whole = {p: p.read_bytes() for p in (box / "prepared").glob("*.csv")}
    path.write_bytes(damage(path.read_bytes(), chance, True))
    run_here("01_prepare_data.py", "--data-dir", box, *KEEP)
    for table, content in whole.items():
        assert table.read_bytes() == content, f"{table.name} is another after damage of {path.name}"
    return path.name


def table_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """What 02 to 05 read as a table or a list, through the function that reads it."""
    from common import manifest, splits
    from common.networks import weights
    from common.script import config, flags
    from common.submission import checking, sources, truth
    from common.submission import files as submission

    name = chance.choice(
        (
            "list.txt",
            "frames.csv",
            "truth.csv",
            "check.txt",
            "manifest.csv",
            "recipe.toml",
            "run.json",
        )
    )
    path = box / name
    path.write_bytes(damage((seeds / "tables" / name).read_bytes(), chance, True))
    if name == "list.txt":
        submission.read_frame_list(path)
    elif name == "frames.csv":
        for image in sources.read_frames(box)["image"]:
            assert ".." not in Path(image).parts and not Path(image).is_absolute()
    elif name == "truth.csv":
        truth.read_truth(path)
    elif name == "check.txt":
        findings = checking.check_submission(path, seeds / "tables" / "list.txt")
        same = path.read_bytes() == (seeds / "tables" / name).read_bytes()
        assert (
            checking.is_valid(findings) <= same or path.read_bytes().rstrip(b"\n").count(b"\n") == 4
        )
    elif name == "manifest.csv":
        splits.training_rows(read := manifest.read_manifest(path), splits.hold_out(read))
    elif name == "recipe.toml":
        parser = config.make_parser("fuzz", *flags.COMMON)
        config.settings_of(config.parse_arguments(parser, "curriculum", ["--config", str(path)]))
    else:
        (box / "model.safetensors").write_bytes(b"")
        weights.refuse_unfinished(box / "model.safetensors")
    return name


def weights_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """Weights and their record, as 05 loads a checkpoint and 03 its first weights."""
    from common.networks.classifier import load_classifier
    from common.networks.formats import read_tensors

    suffix = chance.choice((".safetensors", ".safetensors", ".pth"))
    for source in (seeds / "weights").iterdir():
        shutil.copy(source, box)
    name = chance.choice((f"model{suffix}", f"model{suffix}", "run.json"))
    path = box / name
    path.write_bytes(damage(path.read_bytes(), chance, path.suffix == ".json"))
    if suffix == ".pth":
        read_tensors(box / "model.pth")
    load_classifier(box / f"model{suffix}")
    return name


def state_case(box: Path, seeds: Path, chance: random.Random) -> str:
    """A damaged newest state: the one before is taken, whatever the damage."""
    import torch

    from common.training.states import States

    run_folder = box / "run"
    shutil.copytree(seeds / "state", run_folder / "state")
    path = run_folder / "state" / "fuzz-000000002.pt"
    before = path.read_bytes()
    path.write_bytes(damage(before, chance, False))
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    progress = States(quiet_run(run_folder), "fuzz", network, optimizer).load()
    expected = 2.0 if progress["steps_done"] == 2 else 1.0
    assert progress["steps_done"] in (1, 2)
    assert bool((network.weight == expected).all()), "a damaged state was loaded"
    return path.name


def quiet_run(folder: Path):
    """Return a run that says nothing, for states."""
    from accelerate import Accelerator

    from common.training.runs import Run

    run = Run(folder, {"mixed_precision": "no"}, Accelerator(cpu=True), 1, 0, 1.0)
    run.say = lambda text: None
    return run


# Shares of the cases.
TARGETS = {
    raw_case: 30,
    image_case: 30,
    video_case: 6,
    prepared_case: 5,
    table_case: 15,
    weights_case: 8,
    state_case: 6,
}
