"""Machine unlearning for vision-language, language and face models. The core: no dataset, no benchmark's files, no
Hydra."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the project's folder: config/, data/, minibench/
