"""`python -m lane_router` runs the command `lane-router`."""

import sys

from .command import main

sys.exit(main())
