"""What the fork server imports once for all its copies; see forked.py. Whatever is not here, each copy imports."""

import gc
import importlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in (
    "torch._dynamo",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.utils.tensorboard",
    "tests.data.datasets.layers",
    "tests.layer.test_folder_trust",
    "tests.tiny_vera",
    "vera.core.backends.generate",
    "vera.core.cli.render",
    "vera.core.cli.train",
    "vera.core.sampling.parallel",
    "vera.core.training.full.trainer",
    "vera.core.training.mini.transformer_training",
):
    importlib.import_module(name)
gc.freeze()
