"""The tests here share the worlds and the tiny server of tests/modules."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "modules"))
