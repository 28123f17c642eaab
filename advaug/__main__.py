"""`python -m advaug` is the command `advaug`."""

import sys

from advaug.cli import main

sys.exit(main())
