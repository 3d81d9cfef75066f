"""Starts an edge with the app of these tests: `python run_edge.py`, settings by environment."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from vclone_core.settings import load_settings
from vclone_edge.serve import main

if __name__ == "__main__":
    sys.exit(main(load_settings(os.environ), target=os.environ.get("EDGE_TEST_APP", "trivial:app")))
