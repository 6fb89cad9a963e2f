"""Shows runs as one HTML file: ``python -m stablelit.report RUN_DIR [RUN_DIR ...]``."""

from __future__ import annotations

import sys

from stablelit.report.door import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
