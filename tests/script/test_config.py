"""Settings: a recipe overrides defaults, flags override the recipe, mistakes name the nearest."""

import argparse
import json
from pathlib import Path

import pytest

from common.script import config, flags, synonyms
from common.script.files import UserError


@pytest.fixture
def parser():
    parser = config.make_parser(
        "What it does.", "epochs", "mixed_precision", "model_options", "run_dir", epochs=5
    )
    parser.add_argument("--flip-tta", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--shares", nargs="+", type=flags.fraction, default=[0.0, 1.0])
    parser.add_argument("--checkpoints", type=Path, nargs="+")
    parser.add_argument("--rate", type=flags.positive_float, default=1e-3)
    return parser


def read(parser, tmp_path, recipe="", *argv):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe)
    return config.parse_arguments(parser, "curriculum", ["--config", str(path), *argv])


def test_defaults_stand_where_nothing_is_said(parser):
    arguments = config.parse_arguments(parser, "curriculum", [])
    assert (arguments.epochs, arguments.flip_tta, arguments.shares) == (5, True, [0.0, 1.0])
    assert arguments.model_options == {} and arguments.config is None


def test_recipe_overrides_defaults_and_flags_override_the_recipe(parser, tmp_path):
    recipe = """
    [common]
    epochs = 3
    run_dir = "runs/x"
    [curriculum]
    flip_tta = false
    shares = [0, 0.5]
    rate = 1e-5
    model_options = { stem = "hmlp", depth = 4, qkv_bias = false, name = "a=b" }
    [pretrain_mae]
    epochs = 99
    anything = 1
    """
    arguments = read(parser, tmp_path, recipe)
    assert (arguments.epochs, arguments.run_dir) == (3, Path("runs/x"))
    assert (arguments.flip_tta, arguments.shares, arguments.rate) == (False, [0.0, 0.5], 1e-5)
    expected = {"stem": "hmlp", "depth": 4, "qkv_bias": False, "name": "a=b"}
    assert arguments.model_options == expected
    arguments = read(
        parser,
        tmp_path,
        recipe,
        "--epochs",
        "7",
        "--flip-tta",
        "--shares",
        "1",
        "--model-options",
        "depth=2",
    )
    assert (arguments.epochs, arguments.flip_tta, arguments.shares) == (7, True, [1.0])
    assert arguments.model_options == expected | {"depth": 2}
    assert read(parser, tmp_path, recipe, "--model-options").model_options == {}


def test_options_of_a_model_are_read_as_python_json_or_toml_writes_them(parser):
    options = "a=false b=True c=None d=null e=0.5 f=none g=[1,2] h='no'"
    arguments = config.parse_arguments(parser, "curriculum", ["--model-options", *options.split()])
    expected = {"a": False, "b": True, "c": None, "d": None, "e": 0.5, "f": "none", "g": [1, 2]}
    assert arguments.model_options == {**expected, "h": "no"}


def test_a_scripts_table_overrides_the_common_one(parser, tmp_path):
    recipe = "[common]\nepochs = 3\n[curriculum]\nepochs = 4\n"
    assert read(parser, tmp_path, recipe).epochs == 4


def test_negative_and_dashed_values_of_a_recipe_are_values(parser, tmp_path):
    with pytest.raises(UserError, match="epochs"):
        read(parser, tmp_path, "[curriculum]\nepochs = -3\n")
    assert read(parser, tmp_path, '[curriculum]\nrun_dir = "-odd"\n').run_dir == Path("-odd")


def test_common_key_that_a_script_has_no_use_for_is_no_mistake(parser, tmp_path):
    assert read(parser, tmp_path, "[common]\nworkers = 2\n").epochs == 5


@pytest.mark.parametrize(
    "recipe, named",
    [
        ("[curiculum]\nepochs = 1\n", "curriculum"),
        ("epochs = 1\n", "epochs"),
        ("[curriculum]\nepoch = 1\n", "epochs"),
        ("[common]\nepoch = 1\n", "epochs"),
        ("[curriculum]\nmax_epochs = 1\n", "it is called epochs here"),
        ("[curriculum]\nresume = true\n", "run the same command again"),
        ("[curriculum]\nworkers = 1\n", "workers"),
        ("[curriculum]\nepochs = 'many'\n", "many"),
        ("[curriculum]\nepochs = 0\n", "0"),
        ("[curriculum]\nflip_tta = 'no'\n", "flip_tta"),
        ("[curriculum]\nshares = [0, 2]\n", "2"),
        ("[curriculum]\nrate = nan\n", "nan"),
        ("[curriculum]\nmixed_precision = 'bf17'\n", "bf16"),
        ("[curriculum]\nconfig = 'other.toml'\n", "config"),
        ("[curriculum\n", "TOML"),
        (f"[curriculum]\nepochs = {'1' * 5000}\n", "TOML"),
        (f"[curriculum]\nepochs = {'[' * 100_000}\n", "TOML"),
        ("[[curriculum]]\nepochs = 1\n", "must be one table, with the heading [curriculum]"),
        ("[curriculum]\nrun_dir = ['a', 'b']\n", "run_dir takes one value"),
        ("[curriculum]\nrun_dir = 7\n", "run_dir must be a path in quotes"),
        ("[curriculum]\ncheckpoints = ['a', 7]\n", "checkpoints must be a path in quotes"),
        ("[curriculum]\nrun_dir = ''\n", "must have a name"),
        ("[curriculum]\nonce = 1\n", "once must be true or false"),
    ],
)
def test_mistake_in_a_recipe_is_one_sentence_with_the_file_and_the_nearest(
    parser, tmp_path, recipe, named
):
    with pytest.raises(UserError) as caught:
        read(parser, tmp_path, recipe)
    assert "recipe.toml" in str(caught.value) and named in str(caught.value)


def test_a_switch_is_set_by_true_and_an_editors_byte_order_mark_is_no_mistake(parser, tmp_path):
    assert read(parser, tmp_path, "\ufeff[curriculum]\nonce = true\n").once
    assert not read(parser, tmp_path, "[curriculum]\nonce = false\n").once


def test_missing_recipe_is_named(parser, tmp_path):
    with pytest.raises(UserError, match=r"absent\.toml"):
        config.parse_arguments(parser, "curriculum", ["--config", str(tmp_path / "absent.toml")])


@pytest.mark.parametrize(
    "argv, named",
    [
        (["--epoch", "3"], "nearest known is --epochs"),
        (["--model-options", "qkv_bias=No"], "a switch is qkv_bias=true or qkv_bias=false"),
        (["--num-epochs=3"], "--num-epochs; it is called --epochs here"),
        (["--max_epochs", "3"], "it is called --epochs here"),
        (["--save-step", "3"], "--save-step; see --help"),
        (["--resume"], "--resume: an interrupted run resumes by itself"),
        (["--gpus", "2"], "accelerate launch"),
        (["--learning-rate", "1"], "--learning-rate; see --help"),  # this parser has no --lr
        (["--flip-ta"], "--flip-tta"),
        (["--epochs", "x"], "--epochs"),
        (["--mixed-precision", "bf17"], "bf16"),
        (["--model-options", "depth"], "key=value"),
        (["stray"], "stray"),
        (["--run-dir="], "--run-dir: a path must have a name"),
        (["--checkpoints", "a", "caf\udce9"], "not UTF-8; rename it"),
    ],
)
def test_mistake_in_a_flag_is_one_sentence_and_names_the_nearest(parser, argv, named):
    with pytest.raises(UserError, match=named):
        config.parse_arguments(parser, "curriculum", argv)


def test_other_names_lead_to_flags_that_exist_and_are_known_once():
    flags_of_scripts = set(flags.COMMON) | {
        "adapt_epochs",
        "checkpoints",
        "stage_epochs",
    }
    assert set(synonyms.OTHER_NAMES) <= flags_of_scripts
    taken = set(" ".join(synonyms.OTHER_NAMES.values()).split())
    for words in synonyms.ADVICE:
        assert not taken & set(words.split())
    assert not taken - {"epochs"} & set(flags.COMMON)


def test_settings_for_the_record_are_plain_json(parser, tmp_path):
    settings = config.settings_of(
        read(parser, tmp_path, "[curriculum]\nmodel_options={depth=2}\ncheckpoints=['a']")
    )
    assert json.loads(json.dumps(settings)) == settings
    assert settings["run_dir"] == "runs/paper" and settings["model_options"] == {"depth": 2}
    assert settings["checkpoints"] == ["a"]


def test_help_shows_every_flag_in_its_group_the_scripts_own_among_them(parser):
    parser.group("optimisation").add_argument("--momentum", type=float, help="of SGD")
    parser.group("what it finds").add_argument("--finds", help="its own")
    told = parser.format_help()
    titles = ["run:", "model:", "optimisation:", "hardware:", "what it finds:"]
    places = [told.index(f"\n{title}\n") for title in titles]
    assert places == sorted(places) and "\naugmentation:" not in told
    ends = [*places[1:], len(told)]
    flags = {"--run-dir": 0, "--config": 0, "--model-options": 1, "--epochs": 2, "--momentum": 2}
    for flag, group in (flags | {"--mixed-precision": 3, "--finds": 4}).items():
        assert places[group] < told.index(f"\n  {flag} ") < ends[group]
