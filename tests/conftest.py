"""Whole-system tests have the lab's fixtures."""

import sys
from pathlib import Path

from ovnkit_lab.testing import lab, labs  # noqa: F401

sys.path.append(str(Path(__file__).parent))  # for the modules that the suites here share
