"""The rows of the paper's tables and of their controls, as settings of 03 and 04."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from benchmarks.comparison import Section

# Sub-stages, as flags of 04.
STAGES = "--stage-epochs {} --compound-shares {}".format
# The demo's network with another stem, and another way to make one vector of its tokens.
NETWORK = "--model-options patch_size=8 embed_dim=128 depth=6 num_heads=4 stem={} {}".format
LABELS = "--challenge-labels {truth} --folds 5"  # of the world's challenge videos
FACS = "--natural-share 0 --mixes cutmix --cutmix facs"
# §3.4, and our half of natural compounds, whatever the recipe says.
PAPER = STAGES("5 5 3 3", "0 0.2 0.4 1") + " --natural-share 0.5 --start-share 0"
NO_COMPOUNDS = STAGES("5 5 3 3", "0 0 0 0")
BESIDE = STAGES("5 5 3 3", "0 0.2 0.4 0.4")  # singles stay to the end
AFFINE = "--rotation 15 --scale 0.12 --shift 0.06"  # of configs/ferplus.toml
# Mixup with its share of the image as its share of the label (Zhang et al. 2018).
MIXUP = "--mixes mixup --mixup-beta 1 --mixed-label soft"


LABELS_ALONE = "03, labels"  # the 03 of most rows that see no votes


class Variant(NamedTuple):
    """How a run differs from the recipe.

    flags: of 04, beside the paper's sub-stages; None: 03 alone. single: flags of a 03 of its own;
    else 04 starts from the world's classifier. parts: 03 and 04 see one of so many parts of the
    single expressions, in as many steps. other: run of the same world and seed that this one builds
    on: its predictions of challenge frames are learnt from too, or, with a decision (flags of 05),
    nothing is trained and its network decides. votes: False where only the labels are seen, not the
    votes behind them. start: run of the same world and seed, 03 alone, that 04 starts from where
    the world has no classifier, or one that has seen the votes. team: a module of benchmarks.teams,
    or module.function, that has the row's commands.
    """

    flags: str | None = ""
    single: str | None = None
    parts: int = 1
    other: str | None = None
    decision: str = ""
    votes: bool = True
    start: str = "03"
    team: str = ""


def _network(stem: str, pooling: str) -> Variant:
    options = NETWORK(stem, pooling)
    return Variant(options, single=f"{options} --init none")


RUNS = {
    "curriculum": Variant(),
    "mixup": Variant("--mixes mixup"),
    "cutmix": Variant("--mixes cutmix"),
    "singles": Variant(STAGES("16", "0")),
    "two stages": Variant(STAGES("5 15", "0 1")),
    "three stages": Variant(STAGES("5 5 5", "0 0.5 1")),
    "five stages": Variant(STAGES("5 3 3 3 3", "0 0.2 0.4 0.6 1")),
    # As many compounds as the curriculum shows, 5.2 of 16 epochs, in every epoch alike.
    "constant": Variant(STAGES("16", "0.325")),
    "reversed": Variant(STAGES("3 3 5 5", "1 0.4 0.2 0")),
    "natural": Variant("--natural-share 1"),
    "generated": Variant("--natural-share 0"),
    "two stages, 16": Variant(STAGES("4 12", "0 1")),
    "three stages, 16": Variant(STAGES("5 5 6", "0 0.5 1")),
    "five stages, 16": Variant(STAGES("4 3 3 3 3", "0 0.2 0.4 0.6 1")),
    "facs": Variant(FACS),
    "facs exchanged": Variant("--natural-share 0 --mixes cutmix --cutmix facs-exchanged"),
    "facs and natural": Variant("--mixes cutmix --cutmix facs"),
    "singles, own 03": Variant(STAGES("16", "0"), single=""),
    "facs, own 03": Variant(FACS, single=""),
    "singles, half": Variant(STAGES("16", "0"), single="", parts=2),
    "facs, half": Variant(FACS, single="", parts=2),
    "singles, quarter": Variant(STAGES("16", "0"), single="", parts=4),
    "facs, quarter": Variant(FACS, single="", parts=4),
    "bmc": Variant("--loss bmc --balance none", start="03, bmc"),
    "bmc, natural, singles too": Variant(
        f"--loss bmc --balance none --natural-share 1 {BESIDE}", start="03, bmc"
    ),
    "soft": Variant("--mixed-label soft"),
    "set": Variant("--compound-share-of set"),
    "beta": Variant("--mixup-beta 1"),
    "halves": Variant("--cutmix halves-lr"),
    "raf11": Variant("--pairs raf11"),
    "warm-up": Variant("--stage-warmup-epochs 0.5"),
    "ema": Variant("--ema 0.99"),
    "logit adjustment": Variant(single="--balance logit-adjustment"),
    "own 03": Variant(single=""),
    "affine, own 03": Variant(AFFINE, single=AFFINE),
    "ema, own 03": Variant("--ema 0.99", single="--ema 0.99"),
    "natural, singles too, own 03": Variant(f"--natural-share 1 {BESIDE}", single=""),
    "self-training": Variant(other="curriculum"),
    "prior": Variant(other="curriculum", decision="--prior-correction 1"),
    "half prior": Variant(other="curriculum", decision="--prior-correction 0.5"),
    "03": Variant(None),
    "03, bce": Variant(None, single="--loss bce"),
    "03, bmc": Variant(None, single="--loss bmc --balance none --balance-strength 1"),
    "curriculum, bce": Variant("--loss bce", start="03, bce"),
    "no order": Variant(f"--order none {NO_COMPOUNDS}"),
    "entropy": Variant(f"--order entropy {NO_COMPOUNDS}"),
    "second": Variant(f"--order second {NO_COMPOUNDS}"),
    "no order, mixup": Variant(f"--order none {BESIDE} {MIXUP}"),
    "entropy, mixup": Variant(f"--order entropy {BESIDE} {MIXUP}"),
    "no order, facs": Variant(f"--order none {BESIDE} --mixes cutmix --cutmix facs"),
    "entropy, facs": Variant(f"--order entropy {BESIDE} --mixes cutmix --cutmix facs"),
    "natural, singles too": Variant(f"--natural-share 1 {BESIDE}"),
    # As many as that row shows, 3.4 of 16 epochs.
    "natural, no order": Variant(f"--natural-share 1 {STAGES('16', '0.2125')}"),
    "curriculum, singles too": Variant(BESIDE),
    "conv stem, positions": _network("conv", "global_pool=concat"),
    "linear stem, positions": _network("linear", "global_pool=concat"),
    "conv stem, average": _network("conv", "global_pool=avg class_token=False"),
    "conv stem, attention": _network("conv", "global_pool=map class_token=False"),
    "frames": Variant(team="frames"),
    "AIPL-BME-SEU": Variant(team="aipl_bme_seu", other="frames"),
    "HFUT-MAC2": Variant(team="hfut_mac2", other="frames"),
    "ETS-LIVIA": Variant(team="ets_livia", other="frames"),
    "AVCER": Variant(team="avcer", other="frames"),
    "AVCER, rule 2": Variant(team="avcer.weighted", other="AVCER"),
    "HSEmotion": Variant(team="hsemotion", other="frames"),
    "Netease": Variant(team="netease"),
    "Netease, with": Variant(LABELS, team="netease"),
    "Netease, shared": Variant(team="netease.on_shared", other="frames"),
    "Netease, shared, with": Variant(LABELS, team="netease.on_shared", other="frames"),
}

# A table: its title and its rows, each a label, the run of RUNS, and the paper's value. Differences
# are to the first row.
SECTIONS = {
    "table1": Section("Table 1: generators", [
        ("Mixup", "mixup", 0.6764),
        ("CutMix", "cutmix", 0.6722),
        ("Mixup and CutMix", "curriculum", 0.6856),
    ]),
    "table2": Section("Table 2: sub-stages", [
        ("single labels only", "singles", 0.6653),
        ("[5, 15] × [0, 1]", "two stages", 0.6759),
        ("[5, 5, 5] × [0, 0.5, 1]", "three stages", 0.6652),
        ("[5, 5, 3, 3] × [0, 0.2, 0.4, 1]", "curriculum", 0.6856),
        ("[5, 3, 3, 3, 3] × [0, 0.2, 0.4, 0.6, 1]", "five stages", 0.6325),
    ]),
    "controls": Section("Controls that the paper lacks", [
        ("[5, 5, 3, 3] × [0, 0.2, 0.4, 1]", "curriculum", None),
        ("as many compounds, constant share: [16] × [0.325]", "constant", None),
        ("reversed: [3, 3, 5, 5] × [1, 0.4, 0.2, 0]", "reversed", None),
        ("natural compounds only", "natural", None),
        ("generated compounds only", "generated", None),
        ("singles to the end: × [0, 0.2, 0.4, 0.4]", "curriculum, singles too", None),
        ("singles to the end, natural compounds only", "natural, singles too", None),
        ("as many natural compounds, constant share: [16] × [0.2125]", "natural, no order", None),
    ]),
    "facs": Section("Generation after action units (ours)", [
        ("generated only: Mixup and CutMix, any pixels", "generated", None),
        ("generated only: upper face over lower face", "facs", None),
        ("generated only: the two halves exchanged", "facs exchanged", None),
        ("upper over lower face, and natural compounds", "facs and natural", None),
    ]),
    "equal": Section("Table 2 with equal numbers of steps: 16 epochs each", [
        ("single labels only", "singles", None),
        ("[4, 12] × [0, 1]", "two stages, 16", None),
        ("[5, 5, 6] × [0, 0.5, 1]", "three stages, 16", None),
        ("[5, 5, 3, 3] × [0, 0.2, 0.4, 1]", "curriculum", None),
        ("[4, 3, 3, 3, 3] × [0, 0.2, 0.4, 0.6, 1]", "five stages, 16", None),
    ]),
    "settings": Section("Other settings, one at a time", [
        ("the paper's recipe", "curriculum", None),
        ("balanced MSE for cross-entropy (released code)", "bmc", None),
        ("balanced MSE, natural compounds beside singles", "bmc, natural, singles too", None),
        ("share of the compound set (released code)", "set", None),
        ("CutMix of left and right halves (released code)", "halves", None),
        ("pairs of RAF-DB's eleven (released code)", "raf11", None),
        ("soft labels", "soft", None),
        ("Mixup weight from Beta(1, 1)", "beta", None),
        ("warm-up of half an epoch at each sub-stage", "warm-up", None),
    ]),
    "beyond": Section("Beyond the paper", [
        ("the paper's recipe", "curriculum", None),
        ("average of the weights (--ema 0.99)", "ema", None),
        ("and once more, with the challenge frames it is surest of", "self-training", None),
        ("decided so that classes are as frequent as published", "prior", None),
        ("half-way to that (--prior-correction 0.5)", "half prior", None),
    ]),
    "order": Section("From certain to mixed votes", [
        ("all votes at once, none generated", "no order", None),
        ("from certain to mixed, by entropy", "entropy", None),
        ("from certain to mixed, by the second expression's share", "second", None),
        ("all votes at once, and Mixup of distributions", "no order, mixup", None),
        ("by entropy, and Mixup of distributions", "entropy, mixup", None),
        ("all votes at once, and upper over lower face", "no order, facs", None),
        ("by entropy, and upper over lower face", "entropy, facs", None),
        ("the paper's sub-stages: × [0, 0.2, 0.4, 1]", "curriculum", None),
        ("the same, natural compounds only", "natural", None),
        ("the classifier they start from (03)", "03", None),
    ]),
    "votes": Section("Votes as soft labels, or hard labels", [
        ("03 on the distributions of votes", "03", None),
        ("03 on the labels of singles", LABELS_ALONE, None),
        ("03 and the paper's sub-stages on votes", "curriculum", None),
        ("03 and the paper's sub-stages on labels", "curriculum, labels", None),
        ("votes, natural compounds only", "natural", None),
        ("labels, natural compounds only", "natural, labels", None),
        ("labels, softmax over eight expressions", "curriculum, labels", None),
        ("labels, six sigmoid logits (the paper's)", "curriculum, bce", None),
    ], pairs=True),
    "sizes": Section("Generation after action units, by how many single expressions there are", [
        ("all: singles only", "singles, own 03", None),
        ("all: generated after action units", "facs, own 03", None),
        ("a half of the persons: singles only", "singles, half", None),
        ("a half: generated after action units", "facs, half", None),
        ("a quarter of the persons: singles only", "singles, quarter", None),
        ("a quarter: generated after action units", "facs, quarter", None),
    ], pairs=True),
    "start": Section("What the curriculum starts from: a classifier (03) of each row's own", [
        ("the recipe's: after the masked autoencoder (02)", "own 03", None),
        ("the same, --balance logit-adjustment", "logit adjustment", None),
        ("without 02: conv stem, positions kept", "conv stem, positions", None),
        ("without 02: linear stem, positions kept", "linear stem, positions", None),
        ("without 02: conv stem, average pooling", "conv stem, average", None),
        ("without 02: conv stem, attention pooling", "conv stem, attention", None),
    ]),
    "transfer": Section("What gains on FER+, in the demo: a classifier (03) of each row's own", [
        ("the recipe's", "own 03", None),
        ("faces turned, scaled and moved in 03 and 04", "affine, own 03", None),
        ("averages of the weights in 03 and 04 (--ema 0.99)", "ema, own 03", None),
        ("singles to the end, natural compounds only", "natural, singles too, own 03", None),
    ]),
    "teams": Section("Table 3: the teams' systems, without labels of the challenge's videos", [
        ("the frame network that they share, sum rule", "frames", None),
        ("AIPL-BME-SEU: three sequences, Transformer", "AIPL-BME-SEU", 0.1644),
        ("HFUT-MAC2: three networks", "HFUT-MAC2", 0.2281),
        ("ETS-LIVIA: temporal convolutions", "ETS-LIVIA", 0.2591),
        ("SUN/AVCER: LSTM, weights by emotion, rule 1", "AVCER", None),
        ("SUN/AVCER, rule 2", "AVCER, rule 2", None),
        ("HSEmotion: means of single expressions, smoothed", "HSEmotion", 0.3243),
        ("Netease: curriculum, from the shared network", "Netease, shared", None),
        ("Netease: curriculum, from its own", "Netease", 0.6063),
    ]),
    "tracks": Section("Netease: without and with labels of the challenge's videos", [
        ("from the shared network: without", "Netease, shared", None),
        ("from the shared network: with, five folds by video", "Netease, shared, with", None),
        ("from its own: without", "Netease", None),
        ("from its own: with, five folds by video", "Netease, with", None),
    ], pairs=True),
}  # fmt: skip
DEFAULT = ("table1", "table2", "controls", "facs")
# Where each seed has a 03 of its own. Other rows need an encoder, or the demo.
WITH_VOTES = (*DEFAULT, "order", "votes")
WITHOUT_VOTES = (*DEFAULT, "settings")
for _name in dict.fromkeys(run for name in WITHOUT_VOTES for _, run, _ in SECTIONS[name].rows):
    _start = f"{RUNS[_name].start}, labels"
    RUNS[_start] = RUNS[RUNS[_name].start]._replace(votes=False)
    RUNS[f"{_name}, labels"] = RUNS[_name]._replace(start=_start, votes=False)


def without_votes(name: str) -> Section:
    """Return a table of WITHOUT_VOTES whose runs see labels alone; table 2 has their 03 too."""
    section = SECTIONS[name]
    rows = [(label, f"{run}, labels", paper) for label, run, paper in section.rows]
    if name == "table2":
        rows.append(("the classifier they start from (03)", LABELS_ALONE, None))
    return replace(section, rows=rows)
