#!/usr/bin/env python3
"""Save the top of a page, such as a report, as a browser without a screen shows it.

Needs a browser as a package: pip install PyQt6-WebEngine

Examples
  python benchmarks/photograph.py runs/demo/submission/report.html docs/images/report.png
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1130, 990  # pixels
SETTLE_MS = 3000  # from the page's end of loading to the picture
# Without a screen, a GPU or a namespace of its own, as on a server.
ENVIRONMENT = {
    "QT_QPA_PLATFORM": "offscreen",
    "QT_QUICK_BACKEND": "software",
    "QTWEBENGINE_CHROMIUM_FLAGS": "--no-sandbox --disable-gpu --single-process",
}


def main() -> None:
    """Photograph what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="HTML file")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    try:
        from PyQt6.QtCore import QTimer, QUrl
        from PyQt6.QtWebEngineCore import QWebEngineSettings
        from PyQt6.QtWebEngineWidgets import QWebEngineView
        from PyQt6.QtWidgets import QApplication
    except ImportError as error:
        sys.exit(f"error: {error}; pip install PyQt6-WebEngine")
    application = QApplication(sys.argv[:1])
    view = QWebEngineView()
    view.resize(WIDTH, HEIGHT)
    view.settings().setAttribute(QWebEngineSettings.WebAttribute.ShowScrollBars, False)

    def take() -> None:
        view.grab().save(str(args.picture))
        with Image.open(args.picture) as picture:
            picture.convert("RGB").save(args.picture, optimize=True)
        application.quit()

    view.loadFinished.connect(lambda _: QTimer.singleShot(SETTLE_MS, take))
    view.load(QUrl.fromLocalFile(str(args.page.resolve())))
    view.show()
    application.exec()


if __name__ == "__main__":
    main()
