"""Labelled clips: their frames, the owners' folds, their votes; tables in .xlsx."""

from __future__ import annotations

import zipfile
from collections import Counter

import pytest
from helpers.drawn import scene, write_video
from helpers.preparing import prepare, rows_of
from helpers.raw_files import read, text
from helpers.raw_forms import FORMS, write_sheet
from helpers.raw_trees_videos import mafw_tree

from common.raw import blemore, clips, dfew, emotionet, mafw, mafw_tables, sheets, table_clips
from common.script.files import UserError


def test_frames_of_a_part_of_a_clip_are_those_of_its_time(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, [scene((60 + 4 * n, 120, 100)) for n in range(50)])  # 25 a second
    whole = [clips.open_frame(str(path), f"{k}/2").astype(int) for k in (1, 2)]
    part = [clips.open_frame(str(path), f"{k}/2@1:2").astype(int) for k in (1, 2)]
    # Of 50 frames the middles of two halves are frames 12 and 37 from 0; of the second 25, 31, 43.
    every = [clips.open_frame(str(path), f"{k}/50").astype(int) for k in (13, 38, 32, 44)]
    for found, expected in zip(whole + part, every, strict=True):
        assert abs(found - expected).max() == 0
    with pytest.raises(ValueError, match="has 0 frames"):
        clips.open_frame(str(path), "1/8@3:4")


def test_each_clip_gives_eight_frames_and_keeps_its_votes(tmp_path):
    items, _, counts = read(blemore, FORMS["BLEMORE"].build(tmp_path / "data"))
    mixed = [i for i in items.values() if i.subject == "A411"]
    assert len(mixed) == 8 and {i.votes for i in mixed} == {(0, 0, 0, 7, 0, 3, 0, 0)}
    assert {i.votes for i in items.values() if i.subject == "A102"} == {(0, 0, 0, 0, 0, 10, 0, 0)}
    assert counts["compounds by votes, 3 or more each and 7 or more together"] == 2
    strict = list(blemore.read(tmp_path / "data", Counter(), votes_rule=(4, 7)))
    assert {i.labels for i in strict if getattr(i, "subject", "") == "A411"} == {"Happiness"}


def test_dfew_keeps_the_votes_of_its_clips(tmp_path):
    items, skips, counts = read(dfew, FORMS["DFEW, frames"].build(tmp_path / "data"))
    votes = {i.subject: i.votes for i in items.values()}
    # Surprise, Fear, Disgust, Happiness, Sadness, Anger, Neutral, Contempt.
    assert votes["00001"] == (0, 0, 0, 8, 0, 0, 2, 0) and votes["00002"] == (4, 6, 0, 0, 0, 0, 0, 0)
    assert skips == [("00003", "no majority and in no list")]
    assert counts["singles by the majority of votes"] == 1


def test_the_owners_folds_are_a_setting(tmp_path):
    place = mafw_tree(tmp_path / "MAFW")
    lists = place / "Train & Test Set" / "compound" / "no_caption"
    text(lists / "set_3" / "train.txt", "00003.mp4 anger\r\n")
    text(lists / "set_3" / "test.txt", "00001.mp4 fear_surprise\r\n")
    splits = {i.subject: i.split for i in mafw.read(place, Counter(), owners_fold=3)}
    assert splits["00001"] == "test" and splits["00003"] == "train"
    assert {
        i.split for i in mafw.read(place, Counter()) if getattr(i, "subject", 0) == "00001"
    } == {"train"}
    place = FORMS["DFEW, videos"].build(tmp_path / "DFEW")
    with pytest.raises(UserError, match=r"lacks EmoLabel_DataSplit/\*/set_2\.csv"):
        dfew.read(place, Counter(), owners_fold=2)
    for name, row in (("train", "2,7"), ("test", "1,1")):
        path = place / "EmoLabel_DataSplit" / f"{name}(single-labeled)" / "set_2.csv"
        text(path, f"video_name,label\n{row}\n")
    splits = {i.subject: i.split for i in dfew.read(place, Counter(), owners_fold=2)}
    assert splits == {"00001": "test", "00002": "train"}
    place = FORMS["BLEMORE"].build(tmp_path / "BLEMORE")
    splits = {i.subject: i.split for i in blemore.read(place, Counter(), 2) if hasattr(i, "part")}
    assert splits == {"A411": "train", "A102": "train", "A300": "test"}


def test_emotionets_images_that_are_gone_are_counted_and_no_loss(tmp_path):
    _, skips, counts = read(emotionet, FORMS["EmotioNet"].build(tmp_path / "data"))
    assert counts == {"listed images that are not there": 1}
    assert len(skips) == 2


def test_a_table_names_clips_whole_or_by_time(tmp_path):
    place = FORMS["table of clips"].build(tmp_path / "raw" / "Mine")
    rows = [
        "clips/a.mp4,fear,train,Ann,0,0.2",
        "clips/a.mp4,anger,train,Ann,00:00:00.2,",
        "clips/a.mp4,anger,train,Ann,0.20,",  # the same part
        "b.mp4,anger,val,,,",
        "b.mp4,anger,val,,3,2",
        "b.mp4,anger,val,,soon,",
        "gone.mp4,anger,val,,,",
    ]
    text(place / "labels.csv", "\n".join(["image,label,split,subject,begin,end", *rows]))
    items, skips, _ = read(table_clips, place)
    assert Counter((i.labels, i.split, i.subject) for i in items.values()) == {
        ("Fear", "train", "Ann"): 8,
        ("Anger", "train", "Ann"): 8,
        ("Anger", "val", "b.mp4"): 8,
    }
    assert skips == [
        ("labels.csv:4", "clip is in an earlier line"),
        ("labels.csv:6", "no time in seconds or as 00:00:08.5"),
        ("labels.csv:7", "no time in seconds or as 00:00:08.5"),
        ("labels.csv:8", "image is not in the folder"),
    ]
    text(
        place / "labels.csv", "\n".join(["image,label,split,subject,begin,end", *rows[:2], rows[3]])
    )
    flags = ("--duplicates", "keep", "--min-face", "0", "--min-sharpness", "0", "--accept-losses")
    prepared = prepare(tmp_path, *flags)
    found = Counter((r["split"], r["labels"]) for r in rows_of(prepared / "manifest.csv"))
    # Of 9 frames at 25 a second, five begin before 0.2 s, four after.
    assert (
        found["train", "Fear"] == 5 and found["train", "Anger"] == 4 and found["val", "Anger"] == 8
    )


@pytest.mark.parametrize("damage", ["no zip", "cut", "no sheet", "bomb", "rows"])
def test_a_damaged_or_huge_sheet_is_a_user_error(tmp_path, damage, monkeypatch):
    path = tmp_path / "table.xlsx"
    write_sheet(path, [["clip", "anger"], ["1.mp4", 1], ["2.mp4", 0]])
    assert sheets.sheet_rows(path, ("clip",))[1][0] == (2, {"clip": "1.mp4", "anger": "1"})
    whole = path.read_bytes()
    if damage == "no zip":
        path.write_bytes(b"clip,anger\n")
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "no sheet":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "x")
    elif damage == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(9):
                archive.writestr(f"{number}.xml", b"\0" * (64 << 20))
        assert path.stat().st_size < 1 << 20
    else:
        monkeypatch.setattr(sheets, "_ROWS_MAX", 2)
    why = {"bomb": "it unpacks to 576 MiB", "rows": "more than 2 rows"}.get(damage, "")
    with pytest.raises(UserError, match=rf"cannot be read as a table \({why}"):
        sheets.sheet_rows(path, ("clip",))


def test_a_sheet_without_a_column_says_which(tmp_path):
    place = FORMS["MAFW, tables"].build(tmp_path / "data")
    write_sheet(place / "Labels" / "single-set.xlsx", [["name"], ["1.mp4"]])
    with pytest.raises(UserError, match=r"single-set\.xlsx has no column 'clip'"):
        mafw_tables.read(place, Counter())
