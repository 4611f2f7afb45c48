"""Lets the tests of this folder share ``toy_setup``, which their child processes import too."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
