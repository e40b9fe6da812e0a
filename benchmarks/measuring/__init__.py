"""What the benchmarks of the zoo measure with; the preparation of networks is the tests' own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
