"""One training loop, many models at once, over the cores or GPUs of a machine."""
