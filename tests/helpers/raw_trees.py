"""All small raw data sets of the tests, and who reads each."""

from __future__ import annotations

from helpers.raw_forms import FORMS
from helpers.raw_trees_emotions import (
    affectnet_lists_tree,
    affectnet_plus_tree,
    affectnet_tree,
    ckplus_tree,
    expw_tree,
    fer2013_tree,
    ferplus_tree,
    rafce_tree,
    rafdb_classes_tree,
    rafdb_mirror_tree,
    rafdb_tree,
    table_tree,
)
from helpers.raw_trees_faces import (
    casia_tree,
    celeba_tree,
    faces_tree,
    imdbwiki_tree,
    recordio_tree,
)
from helpers.raw_trees_videos import affwild2_tree, challenge_tree, mafw_tree, mtl_tree

# The right reader of each tree: tree -> (builder, name of the module in common.raw).
TREES = {
    "RAF-DB": (rafdb_tree, "rafdb"),
    "RAF-DB in class folders": (rafdb_classes_tree, "rafdb"),
    "RAF-DB compound in class folders": (
        lambda r: rafdb_classes_tree(r / "compound").parent,
        "rafdb",
    ),
    "RAF-DB mirror": (rafdb_mirror_tree, "rafdb"),
    "RAF-CE": (rafce_tree, "rafce"),
    "AffectNet npy": (affectnet_tree, "affectnet"),
    "AffectNet+": (affectnet_plus_tree, "affectnet"),
    "AffectNet original": (affectnet_lists_tree, "affectnet_lists"),
    "Aff-Wild2": (affwild2_tree, "affwild2"),
    "s-Aff-Wild2": (mtl_tree, "affwild2"),
    "MAFW": (mafw_tree, "mafw"),
    "FER2013": (fer2013_tree, "fer2013"),
    "FERPlus": (ferplus_tree, "ferplus"),
    "FERPlus, newer votes": (lambda root: ferplus_tree(root, newer=True), "ferplus"),
    "FERPlus beside pixels": (lambda root: fer2013_tree(root, votes=True), "fer2013"),
    "FER2013 mirror": (lambda root: fer2013_tree(root, mirror=True), "fer2013"),
    "ExpW": (expw_tree, "expw"),
    "CK+": (ckplus_tree, "ckplus"),
    "CelebA": (celeba_tree, "celeba"),
    "CelebA mirror": (lambda root: celeba_tree(root, mirror=True), "celeba"),
    "IMDB-WIKI": (imdbwiki_tree, "imdbwiki"),
    "RecordIO": (recordio_tree, "recordio"),
    "labelled table": (table_tree, "table"),
    "C-EXPR-DB": (challenge_tree, "challenge"),
    "WebFace42M": (faces_tree, "folder"),
    "CASIA-WebFace": (casia_tree, "folder"),
    **{name: (form.build, form.reader) for name, form in FORMS.items()},
}
