"""``python -m agentgym_prm``: the same as ``agentgym-prm``."""

import sys

from agentgym_prm.cli import main

sys.exit(main())
