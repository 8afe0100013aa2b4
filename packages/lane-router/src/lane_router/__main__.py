"""`python -m lane_router` is the command `lane-router`."""

import sys

from .command import main

sys.exit(main())
