"""The demo world: drawn faces moved by FACS action units, in the real data sets' raw layouts.

No data set of this field may be passed on, so the repository draws its own. `python -m common.demo
--help` writes it; `settings.py` holds its size and difficulty.
"""
