"""Further forms in which data sets are passed on: small trees, and what is to be read of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers.drawn import scene, write_video
from helpers.raw_files import image, text


class Form(NamedTuple):
    """A tree and what a reader makes of it.

    reader: name of the module in common.raw. found: by path of an image, a clip or a table of
    pixels, its (data set, split, labels, subject), the reason why it is not used, or "" where
    nothing is said of it.
    texts: by path, the contents of lists. sheets: by path, the rows of tables in .xlsx.
    form: what --list says of it.
    """

    reader: str
    form: str
    found: dict[str, tuple[str, str, str, str] | str]
    texts: dict[str, str] = {}  # noqa: RUF012 - never changed
    sheets: dict[str, list] = {}  # noqa: RUF012
    after: Callable[[Path], None] | None = None

    def build(self, root: Path) -> Path:
        """Make the tree at root."""
        for name in self.found:
            path = root / name
            if name in self.texts:
                continue
            if path.suffix in (".mp4", ".avi", ".mov"):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, [scene((100 + n, 120, 90)) for n in range(9)], codec_of(path))
            else:
                image(path, side=48)
        for name, content in self.texts.items():
            text(root / name, content)
        for name, rows in self.sheets.items():
            write_sheet(root / name, rows)
        if self.after:
            self.after(root)
        return root


def codec_of(path: Path) -> str:
    return "mpeg4" if path.suffix == ".avi" else "libx264"


def write_sheet(path: Path, rows: list) -> None:
    """Write rows as the first sheet of an .xlsx."""
    from openpyxl import Workbook

    path.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


ELEVEN = (
    *("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt"),
    *("anxiety", "helplessness", "disappointment"),
)


def mafw_row(clip: str, *shown: str) -> list:
    numbers = [n for n, name in enumerate(ELEVEN, 1) if name in shown]
    return [clip, *(int(name in shown) for name in ELEVEN), ",".join(map(str, numbers))]


BASIC, COMPOUND = "RAF-DB-basic", "RAF-DB-compound"
FORMS = {
    "RAF-DB without its level": Form(
        "rafdb",
        "owners' lists",
        {
            "Image/aligned/train_00001_aligned.jpg": (BASIC, "train", "Sadness", ""),
            "Image/aligned/test_0001_aligned.jpg": (BASIC, "test", "Neutral", ""),
            "Image/original/test_0001.jpg": "",
        },
        {"EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntest_0001.jpg 7\n"},
    ),
    "RAF-DB compound without its level": Form(
        "rafdb",
        "owners' lists",
        {
            "Image/aligned/train_0001_aligned.jpg": (COMPOUND, "train", "Happiness Surprise", ""),
            "Image/aligned/test_0001_aligned.jpg": (COMPOUND, "test", "Disgust Surprise", ""),
        },
        {"EmoLabel/list_patition_label.txt": "train_0001.jpg 1\ntest_0001.jpg 11\n"},
    ),
    "RAF-DB, aligned twice": Form(
        "rafdb",
        "owners' lists",
        {"basic/Image/aligned/aligned/train_00001_aligned.jpg": (BASIC, "train", "Fear", "")},
        {"basic/EmoLabel/list_patition_label.txt": "train_00001.jpg 2\n"},
    ),
    "RAF-DB, train and valid": Form(
        "rafdb",
        "numbered folders",
        {
            "train/1/train_00001_aligned.jpg": (BASIC, "train", "Surprise", ""),
            "train/7/train_00002_aligned.jpg": (BASIC, "train", "Neutral", ""),
            "train/7/test_0007_aligned.jpg": "its name does not start with its split",
            "valid/3/train_00003_aligned.jpg": (BASIC, "val", "Disgust", ""),
            "valid/5/test_0004_aligned.jpg": (BASIC, "test", "Sadness", ""),
        },
    ),
    "RAF-DB, train_set and val_set": Form(
        "rafdb",
        "numbered folders",
        {
            "RAF_DB/train_set/1/a.jpg": (BASIC, "train", "Surprise", ""),
            "RAF_DB/train_set/4/a.jpg": (BASIC, "train", "Happiness", ""),
            "RAF_DB/val_set/6/a.jpg": (BASIC, "val", "Anger", ""),
        },
    ),
    "RAF-DB below splits by name": Form(
        "rafdb",
        "class folders",
        {
            "train/happy/train_00001_aligned.jpg": (BASIC, "train", "Happiness", ""),
            "train/angry/train_00002_aligned.jpg": (BASIC, "train", "Anger", ""),
            "test/surprise/test_0001_aligned.jpg": (BASIC, "test", "Surprise", ""),
        },
    ),
    "RAF-CE in RAF-AU": Form(
        "rafce",
        "owners' lists",
        {"RAF-AU/aligned/aligned/0001_aligned.jpg": ("RAF-CE", "val", "Happiness Sadness", "")},
        {"RAFCE_emolabel.txt": "0001.jpg 13", "RAFCE_partition.txt": "0001.jpg 2"},
    ),
    "FER2013 in folders": Form(
        "fer2013_folders",
        "FER2013, class folders",
        {
            "train/angry/Training_3908.jpg": ("FER2013", "train", "Anger", ""),
            "train/happy/Training_12.jpg": ("FER2013", "train", "Happiness", ""),
            "test/surprise/PublicTest_5.jpg": ("FER2013", "val", "Surprise", ""),
            "test/neutral/PrivateTest_6.jpg": ("FER2013", "test", "Neutral", ""),
        },
    ),
    "FER2013, images below": Form(
        "fer2013_folders",
        "FER2013, class folders",
        {
            "fer2013/images/train/angry/0.jpg": ("FER2013", "train", "Anger", ""),
            "fer2013/images/train/fear/0.jpg": ("FER2013", "train", "Fear", ""),
            "fer2013/images/validation/sad/7.jpg": ("FER2013", "val", "Sadness", ""),
            "fer2013/images/validation/disgust/8.jpg": ("FER2013", "val", "Disgust", ""),
        },
    ),
    "FER2013 numbered": Form(
        "fer2013_folders",
        "FER2013, numbered folders",
        {
            "FER-2013/train/0/1.png": ("FER2013", "train", "Anger", ""),
            "FER-2013/train/1/1.png": ("FER2013", "train", "Disgust", ""),
            "FER-2013/test/0/1.png": ("FER2013", "test", "Anger", ""),
            "FER-2013/test/1/4.png": ("FER2013", "test", "Disgust", ""),
        },
    ),
    "FERPlus in folders": Form(
        "fer2013_folders",
        "FERPlus, class folders",
        {
            "train/anger/fer0000001.png": ("FERPlus", "train", "Anger", ""),
            "train/contempt/fer0000002.png": ("FERPlus", "train", "Contempt", ""),
            "validation/suprise/fer0028638.png": ("FERPlus", "val", "Surprise", ""),
            "test/happiness/fer0032220.png": ("FERPlus", "test", "Happiness", ""),
        },
    ),
    "AffectNet, labels.csv with pth": Form(
        "affectnet_folders",
        "labels.csv with pth",
        {
            "archive (3)/Train/anger/image0000006.jpg": ("AffectNet", "train", "Surprise", ""),
            "archive (3)/Train/happy/image0000007.jpg": ("AffectNet", "train", "Happiness", ""),
            "archive (3)/Test/contempt/image0000008.jpg": ("AffectNet", "test", "Contempt", ""),
            "archive (3)/Test/contempt/image0000009.jpg": "not in labels.csv",
        },
        {
            "archive (3)/labels.csv": ",pth,label,relFCs\n0,anger/image0000006.jpg,surprise,0.87\n"
            "1,happy/image0000007.jpg,happy,0.9\n2,contempt/image0000008.jpg,contempt,0.8\n"
        },
    ),
    "AffectNet, labels.csv at its root": Form(
        "affectnet_folders",
        "labels.csv with pth",
        {
            "anger/image0000006.jpg": ("AffectNet", "", "Surprise", ""),
            "sad/image0000007.jpg": ("AffectNet", "", "Sadness", ""),
        },
        {
            "labels.csv": ",pth,label,relFCs\n0,anger/image0000006.jpg,surprise,0.8\n"
            "1,sad/image0000007.jpg,sad,0.8\n"
        },
    ),
    "AffectNet numbered": Form(
        "affectnet_folders",
        "numbered folders",
        {
            "affectnet/train/0/a.jpg": ("AffectNet", "train", "Neutral", ""),
            "affectnet/train/1/a.jpg": ("AffectNet", "train", "Happiness", ""),
            "affectnet/val/0/b.jpg": ("AffectNet", "val", "Neutral", ""),
            "affectnet/val/1/b.jpg": ("AffectNet", "val", "Happiness", ""),
            "affectnet/test/7/c.jpg": ("AffectNet", "test", "Contempt", ""),
        },
    ),
    "AffectNet for YOLO": Form(
        "affectnet_yolo",
        "YOLO boxes",
        {
            "AffectNet/YOLO_format/train/images/1.png": ("AffectNet", "train", "Anger", ""),
            "AffectNet/YOLO_format/valid/images/2.png": ("AffectNet", "val", "Surprise", ""),
            "AffectNet/YOLO_format/test/images/3.png": ("AffectNet", "test", "Contempt", ""),
            "AffectNet/YOLO_format/test/images/4.png": "no file of boxes",
        },
        {
            "AffectNet/YOLO_format/data.yaml": "train: ../train/images\nnc: 3\n"
            "names: ['Anger', 'Contempt', 'Surprise']\n",
            "AffectNet/YOLO_format/train/labels/1.txt": "0 0.5 0.5 0.9 0.9\n",
            "AffectNet/YOLO_format/valid/labels/2.txt": "2 0.5 0.5 1.0 1.0",
            "AffectNet/YOLO_format/test/labels/3.txt": "1 0.5 0.5 0.4 0.2\n",
        },
    ),
    "CK+48": Form(
        "ckplus_faces",
        "class folders",
        {
            "CK+48/anger/S010_004_00000017.png": ("CK+", "", "Anger", "S010"),
            "CK+48/contempt/S011_002_00000009.png": ("CK+", "", "Contempt", "S011"),
            "CK+48/sadness/S010_005_00000001.png": ("CK+", "", "Sadness", "S010"),
        },
    ),
    "ckextended.csv": Form(
        "ckplus_faces",
        "csv of pixels",
        {"ckextended.csv": ("CK+", "val", "Contempt", "")},
        {"ckextended.csv": f"emotion,pixels,Usage\n7,{' '.join(['9'] * 2304)},PublicTest\n"},
    ),
    "SFEW": Form(
        "sfew",
        "class folders",
        {
            "Train/Train_Aligned_Faces/Angry/AirForceOne_001110680_00000001.png": (
                *("SFEW", "train", "Anger", "AirForceOne"),
            ),
            "Train/Train_Aligned_Faces/Happy/Hang_Over_002_00000003.png": (
                *("SFEW", "train", "Happiness", "Hang_Over"),
            ),
            "Val/Val_Aligned_Faces_new/Val_Aligned_Faces/Sad/Juno_000123_00000004.png": (
                *("SFEW", "val", "Sadness", "Juno"),
            ),
            "Test/Test_Aligned_Faces/000000001.png": ("SFEW", "test", "", ""),
        },
    ),
    "SFEW as a table": Form(
        "sfew",
        "sfew_2.0_labels.csv",
        {
            "images/Juno_000123_00000004.png": ("SFEW", "val", "Sadness", "Juno"),
            "images/Juno_000123_00000005.png": "not in sfew_2.0_labels.csv",
        },
        {
            "sfew_2.0_labels.csv": "image_name,label,emotion,original_split\n"
            "Juno_000123_00000004.png,5,Sad,Val\n"
        },
    ),
    "JAFFE": Form(
        "posed",
        "JAFFE, by file names",
        {
            "jaffe/KA.AN1.39.tiff": ("JAFFE", "", "Anger", "KA"),
            "jaffe/KM.SU2.18.tiff": ("JAFFE", "", "Surprise", "KM"),
        },
    ),
    "KDEF": Form(
        "posed",
        "KDEF, by file names",
        {
            "KDEF/AF01/AF01AFS.JPG": ("KDEF", "", "Fear", "F01"),
            "KDEF/AF01/AF01SAFL.JPG": ("KDEF", "", "Sadness", "F01"),
            "KDEF/BM35/BM35SUHR.JPG": ("KDEF", "", "Surprise", "M35"),
            "KDEF/BM35/BM35NES.JPG": ("KDEF", "", "Neutral", "M35"),
            "KDEF/BM35/BM35.JPG": "its name does not state a person and an expression",
        },
    ),
    "class folders by name": Form(
        "classes",
        "class folders by name",
        {
            "archive/data/Training/01_angry/a.jpg": ("data", "train", "Anger", ""),
            "archive/data/Training/3-sad/a.jpg": ("data", "train", "Sadness", ""),
            "archive/data/Training/Other/a.jpg": ("data", "train", "", ""),
            "archive/data/Validation_Set/01_angry/a.jpg": ("data", "val", "Anger", ""),
            "archive/data/Validation_Set/joy/b.jpg": ("data", "val", "Happiness", ""),
            "archive/data/test/train/joy/b.jpg": ("data", "test", "Happiness", ""),
            "archive/data/Training/cover.jpg": "is not in the folder of a class",
        },
    ),
    "classes.csv": Form(
        "classes",
        "classes.csv",
        {
            "train/heureux/a.jpg": ("data", "train", "Happiness", ""),
            "train/0/a.jpg": ("data", "train", "Anger Sadness", ""),
            "valid/ennui/b.jpg": ("data", "val", "", ""),
            "train/colere/b.jpg": "is not in the folder of a class",
        },
        {"classes.csv": "folder,label\nHeureux,happy\n0,Sadly Angry\nennui,other\n"},
    ),
    "Aff-Wild2, 1st edition": Form(
        "affwild2",
        "EXPR_Set",
        {
            "cropped_images_aligned/cropped_aligned/v1/00001.jpg": (
                *("Aff-Wild2", "train", "Happiness", "v1"),
            ),
            "cropped_images_aligned/cropped_aligned/v1/00002.jpg": "label -1: not annotated",
            "cropped_images_aligned/cropped_aligned/v2_left/00001.jpg": (
                *("Aff-Wild2", "val", "Surprise", "v2"),
            ),
        },
        {
            "annotations/EXPR_Set/Training_Set/v1.txt": "Neutral,Anger,Disgust,Fear,Happiness,"
            "Sadness,Surprise\n4\n-1\n",
            "annotations/EXPR_Set/Validation_Set/v2_left.txt": "Neutral,Anger,Disgust,Fear,"
            "Happiness,Sadness,Surprise\n6\n",
        },
    ),
    "MAFW, tables": Form(
        "mafw_tables",
        "tables multi-set and single-set",
        {
            "data/clips/00001.mp4": ("MAFW", "", "Anger Fear", "00001"),
            "data/clips/00002.mp4": ("MAFW", "", "Happiness", "00002"),
            "data/clips/00003.mp4": ("MAFW", "", "", "00003"),
        },
        sheets={
            "Labels/multi-set.xlsx": [
                ["clip", *ELEVEN, "multi_label"],
                mafw_row("00001.mp4", "anger", "fear"),
                mafw_row("00003.mp4", "anger", "fear", "disgust"),
            ],
            "Labels/single-set.xlsx": [
                ["clip", *ELEVEN, "single_label"],
                mafw_row("00001.mp4", "anger"),
                mafw_row("00002.mp4", "happiness"),
            ],
            "Labels/annotation.xlsx": [["clip", "votes"]],
        },
    ),
    "DFEW, frames": Form(
        "dfew",
        "frames of clips, votes",
        {
            **{
                f"Clip/clip_224x224/00001/{n}.jpg": ("DFEW", "train", "Happiness", "00001")
                for n in (1, 2)
            },
            "Clip/clip_224x224/00002/1.jpg": ("DFEW", "test", "Fear Surprise", "00002"),
            "Clip/clip_224x224/00003/1.jpg": "no majority and in no list",
            "Clip/clip_224x224/00004/1.jpg": ("DFEW", "", "Anger Sadness", "00004"),
        },
        {
            "EmoLabel_DataSplit/train(single-labeled)/set_1.csv": "video_name,label\n1,1\n",
            "EmoLabel_DataSplit/test(single-labeled)/set_1.csv": "video_name,label\n2,7\n",
        },
        {
            "Annotation/annotation.xlsx": [
                [*("1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear")]
                + ["order", "label"],
                [8, 0, 2, 0, 0, 0, 0, 1, 1],
                [0, 0, 0, 0, 4, 0, 6, 2, 7],
                [0, 3, 3, 2, 2, 0, 0, 3, 0],
                [0, 5, 0, 5, 0, 0, 0, 4, 0],
            ]
        },
    ),
    "DFEW, videos": Form(
        "dfew",
        "clips, owners folds",
        {
            "Clip/clip_224x224_avi/00001.avi": ("DFEW", "train", "Happiness", "00001"),
            "Clip/clip_224x224_avi/00002.avi": ("DFEW", "test", "Fear", "00002"),
        },
        {
            "EmoLabel_DataSplit/train(single-labeled)/set_1.csv": "video_name,label\n1,1\n",
            "EmoLabel_DataSplit/test(single-labeled)/set_1.csv": "video_name,label\n2,7\n",
        },
    ),
    "FERV39k": Form(
        "ferv39k",
        "frames of clips",
        {
            "2_ClipsforFaceCrop/Action/Sad/0010/1.jpg": (
                *("FERV39k", "train", "Sadness", "Action/Sad/0010"),
            ),
            "2_ClipsforFaceCrop/Crime/Angry/0002/1.jpg": (
                *("FERV39k", "test", "Anger", "Crime/Angry/0002"),
            ),
            "2_ClipsforFaceCrop/Crime/Angry/0003/1.jpg": "",
        },
        {
            "4_setups/All_scenes/train_All.csv": "Action/Sad/0010 Sad\n",
            "4_setups/All_scenes/test_All.csv": "Crime/Angry/0002 Angry\n",
        },
    ),
    "BLEMORE": Form(
        "blemore",
        "clips, with tables",
        {
            "A411_mix_ang_hap_30_70_ver1.mov": ("BLEMORE", "val", "Anger Happiness", "A411"),
            "A102_ang_int1_ver1.mov": ("BLEMORE", "train", "Anger", "A102"),
            "A300_mix_disg_sad_50_50_ver1.mov": ("BLEMORE", "test", "Disgust Sadness", "A300"),
            "A301_boredom_ver1.mov": "its name does not state emotions",
        },
        {
            "train_metadata.csv": "filename,fold\nA411_mix_ang_hap_30_70_ver1,1\n"
            "A102_ang_int1_ver1,0\n",
            "test_metadata.csv": "filename,mix\nA300_mix_disg_sad_50_50_ver1.mov,1\n",
        },
    ),
    "EmotioNet": Form(
        "emotionet",
        "table of URLs",
        {
            "images/N_1.jpg": ("EmotioNet", "", "Anger Surprise", ""),
            "images/a b.jpg": ("EmotioNet", "", "Happiness", ""),
            "images/c.jpg": ("EmotioNet", "", "", ""),
            "images/d.jpg": "of several categories",
            "images/e.jpg": "not in URLsWithEmotionCat_aws.xlsx",
        },
        sheets={
            "URLsWithEmotionCat_aws.xlsx": [
                ["url_orig", "url_server", "happy", "angrily_surprised", "awed"],
                ["http://x.org/p/1.jpg", "http://aws/N_1.jpg", 0, 1, 0],
                ["http://x.org/a%20b.jpg?w=3", None, 1, 999, 0],
                ["http://x.org/c.jpg", None, 0, 0, 1],
                ["http://x.org/d.jpg", None, 1, 1, 0],
                ["http://x.org/gone.jpg", None, 1, 0, 0],
            ]
        },
    ),
    "table of clips": Form(
        "table_clips",
        "labels.csv of clips",
        {
            "clips/a.mp4": ("data", "train", "Fear Surprise", "Ann"),
            "b.mp4": ("data", "val", "Anger", "b.mp4"),
            "photo.jpg": ("data", "val", "Happiness", ""),
            "clips/c.mp4": "",
        },
        {
            "labels.csv": "image,label,split,subject,begin,end\n"
            "clips/a.mp4,Fearfully Surprised,train,Ann,0,0.2\n"
            "clips/a.mp4,Fearfully Surprised,train,Ann,00:00:00.2,\n"
            "b.mp4,anger,val,,,\nphoto.jpg,happy,val,,,\n"
        },
    ),
}
