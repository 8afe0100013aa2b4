"""`python -m lite_registry` is the command `lite-registry`."""

import sys

from .command import main

sys.exit(main())
