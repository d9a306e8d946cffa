"""What runs a model, behind one protocol."""

import os

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it advises installing PyTorch; token ids need none
