"""Lets the tests of this folder share ``samples``, which worker processes import too."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
