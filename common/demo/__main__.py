"""Draw the demo world, in the raw layouts of the real data sets.

python -m common.demo --out data/demo --seed 0      data/demo/raw and data/demo/truth.csv
python -m common.demo --contact-sheet faces.jpg
python -m common.demo --action-units action_units.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common.script.flags import COMMON, positive_float
from common.script.main import run_script


def main(argv: list[str] | None = None) -> None:
    """Run the command line. Raises UserError for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m common.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, help="draw the world into this folder: raw/ and truth.csv"
    )
    parser.add_argument(
        "--seed", **COMMON["seed"] | {"help": "each seed draws another world (default: 0)"}
    )
    parser.add_argument(
        "--scale", type=positive_float, default=1.0, help="how many of the pictures (default: 1.0)"
    )
    parser.add_argument("--workers", type=int, help="processes to use (default: by cores)")
    parser.add_argument(
        "--contact-sheet", type=Path, help="draw people and expressions into this picture"
    )
    parser.add_argument(
        "--action-units", type=Path, help="draw the single action units into this picture"
    )
    arguments = parser.parse_args(argv)
    if not (arguments.out or arguments.contact_sheet or arguments.action_units):
        parser.error("give --out, --contact-sheet or --action-units")
    if arguments.workers is not None and arguments.workers < 1:
        parser.error("--workers must be 1 or more")
    # Here, so that --help and mistakes in the arguments cost no second.
    from common.demo.settings import settings_for
    from common.demo.sheets import action_unit_sheet, contact_sheet
    from common.demo.world import make_world

    if arguments.contact_sheet:
        contact_sheet(arguments.contact_sheet, arguments.seed)
        print(f"Contact sheet: {arguments.contact_sheet}")
    if arguments.action_units:
        action_unit_sheet(arguments.action_units, arguments.seed)
        print(f"Action units: {arguments.action_units}")
    if arguments.out:
        settings = settings_for(arguments.seed, arguments.scale)
        fresh = make_world(arguments.out, settings, arguments.workers)
        state = "written" if fresh else "there already"
        print(f"Demo world {state}: {arguments.out / 'raw'}, {arguments.out / 'truth.csv'}")


if __name__ == "__main__":
    run_script(main)
