"""The settings there are: each with its default, its meaning and its range."""

import re
from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from mprnet.data.synthetic.degradations import NAMES, split_names


def defaults() -> CfgNode:
    """Every key there is, with the value it has when a YAML file is silent."""
    c = CfgNode()
    # Numbers of the GPUs to use, one for each process of torchrun; without torchrun the first. [-1]: all, else the CPU.
    c.GPU = [-1]
    c.VERBOSE = False  # print the network before training

    c.MODEL = CfgNode()
    c.MODEL.MODE = ""  # the task: part of the paths that are written
    c.MODEL.SESSION = "MPRNet"  # this run's name: likewise
    # The network's widths; -1 stands for the task's own (its MPRNet.py).
    c.MODEL.N_FEAT = -1
    c.MODEL.SCALE_UNETFEATS = -1
    c.MODEL.SCALE_ORSNETFEATS = -1
    c.MODEL.NUM_CAB = -1
    # The network's form (Table 6): each stage's subnetwork, unet or orsnet; supervised attention; cross-stage fusion.
    c.MODEL.SUBNETWORKS = ["unet", "unet", "orsnet"]
    c.MODEL.SAM = True
    c.MODEL.CSFF = True

    c.OPTIM = CfgNode()
    c.OPTIM.BATCH_SIZE = 16  # of all processes together
    c.OPTIM.NUM_EPOCHS = 100
    # Steps; if not 0, as many whole epochs are trained as reach it, whatever NUM_EPOCHS says.
    c.OPTIM.NUM_ITERATIONS = 0
    c.OPTIM.LR_INITIAL = 2e-4
    c.OPTIM.LR_MIN = 1e-6
    c.OPTIM.BETA1 = 0.9
    c.OPTIM.WEIGHT_DECAY = 0.0
    c.OPTIM.WARMUP_EPOCHS = 3
    c.OPTIM.COSINE_EXTRA_EPOCHS = 0  # the cosine's length beyond the training's end
    c.OPTIM.GRAD_CLIP = 0.0  # largest norm of the gradient; 0: not clipped
    c.OPTIM.ACCUMULATE = 1  # parts that a batch is computed in, one after the other
    c.OPTIM.EMA = 0.0  # decay of the weights' running average, which is then validated and kept; 0: none

    c.LOSS = CfgNode()
    c.LOSS.EDGE_WEIGHT = 0.05  # Equation 1
    c.LOSS.CLAMP = False  # clamp the outputs to [0, 1] first

    c.AUGMENT = CfgNode()
    c.AUGMENT.SATURATION = [1.0, 1.0]  # range of the saturation factor that a third of the samples get
    c.AUGMENT.MIXUP_FROM_EPOCH = 0  # 0: never
    c.AUGMENT.MIXUP_ALPHA = 0.6  # of the Beta distribution

    c.TRAINING = CfgNode()
    c.TRAINING.VAL_AFTER_EVERY = 1  # epochs
    c.TRAINING.VAL_TIMES = 1  # validations within each epoch that is validated, evenly spread
    # If not empty, validate in these epochs and, if VAL_ALL_FROM is not 0, in all from that one on, whatever
    # VAL_AFTER_EVERY says; and at the end.
    c.TRAINING.VAL_EPOCHS = []
    c.TRAINING.VAL_ALL_FROM = 0
    c.TRAINING.RESUME = False  # go on from model_latest.pth
    c.TRAINING.INIT_WEIGHTS = ""  # start from these weights, with a fresh optimizer
    c.TRAINING.TRAIN_PS = 256  # height and width of the training patches
    c.TRAINING.VAL_PS = 0  # centre crop for validation; 0: whole images
    c.TRAINING.TRAIN_DIR = ""  # a folder with input/ and target/
    c.TRAINING.VAL_DIR = ""
    c.TRAINING.ELSE_IN = ""  # a folder to look for TRAIN_DIR and VAL_DIR in, if they are not where they are said to be
    c.TRAINING.PAIRS = 0  # how many there are in the data sets as published, for --check; 0: not known
    c.TRAINING.VAL_PAIRS = 0
    c.TRAINING.HOLD_OUT = 0.0  # part of the training scenes to validate on, in the place of VAL_DIR
    c.TRAINING.SCENE = ".*"  # regular expression for what of a name (its first group, if any) tells the scene
    c.TRAINING.PAIR_BY_ORDER = False  # the n-th input belongs to the n-th target, whatever they are called
    c.TRAINING.PAIR_MANY_TO_ONE = False  # several inputs to one target: 1_1.jpg and 1_2.jpg belong to 1.jpg
    c.TRAINING.SAVE_DIR = "./checkpoints"
    c.TRAINING.SAVE_IMAGES = False  # write every validation result, not only the sheet
    c.TRAINING.SAVE_MINUTES = 15.0  # between checkpoints within an epoch
    c.TRAINING.SEED = 1234
    c.TRAINING.WORKERS = -1  # processes that read pictures; -1: as many as the machine has to spare
    c.TRAINING.ON_BROKEN = "stop"  # or skip: what to do about a picture that cannot be read
    c.TRAINING.MAX_BAD_STEPS = 25  # steps in a row skipped, their loss not finite or too large, before the run stops
    c.TRAINING.PRECISION = "fp32"  # or bf16, fp16: autocast, the loss still in fp32
    c.TRAINING.COMPILE = False  # torch.compile: minutes at the start, faster steps after
    # When compiled: the part of the activations' memory that may be kept, the rest being recomputed, cheapest first.
    c.TRAINING.COMPILE_BUDGET = 0.9
    c.TRAINING.CHECKPOINTING = False  # recompute activations in the backward pass: less memory, a sixth more time

    c.SYNTHETIC = CfgNode()  # generated training pictures (mprnet/data/synthetic), for TRAIN_DIR and VAL_DIR
    # noise, camera_noise, rain, camera_shake or motion_blur, or several, comma-separated; empty: none are generated
    c.SYNTHETIC.DEGRADATION = ""
    c.SYNTHETIC.BANK_DIR = "./Datasets/synthetic"
    c.SYNTHETIC.PICTURES = 2000
    c.SYNTHETIC.PICTURE_SIZE = 256
    c.SYNTHETIC.SAMPLES_PER_EPOCH = 4000
    c.SYNTHETIC.SIGMA = [0.0, 55.0]  # Gaussian noise, grey levels: uniform between the two
    c.SYNTHETIC.VAL_PICTURES = 16
    c.SYNTHETIC.VAL_SIGMA = 25.0
    return c


# Settings that are paths.
PATHS = (
    "SYNTHETIC.BANK_DIR",
    *(f"TRAINING.{k}" for k in ("TRAIN_DIR", "VAL_DIR", "ELSE_IN", "SAVE_DIR", "INIT_WEIGHTS")),
)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
_AT_LEAST_0 = (lambda v: v >= 0, "at least 0")
_WIDTH = (lambda v: -1 <= v <= 4096, "from 0 to 4096, or -1 for the task's own")
_PART = (lambda v: 0 <= v < 1, "at least 0 and less than 1")
_NAME = (lambda v: re.fullmatch(r"[^./\\][^/\\]{0,99}|", v) is not None, "a plain name, without folders")
# What a value has to be, as a check and in words.
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL.MODE": _NAME,
    "MODEL.SESSION": _NAME,
    "MODEL.N_FEAT": (lambda v: v == -1 or 1 <= v <= 4096, "from 1 to 4096, or -1 for the task's own"),
    "MODEL.SCALE_UNETFEATS": _WIDTH,
    "MODEL.SCALE_ORSNETFEATS": _WIDTH,
    "MODEL.NUM_CAB": _WIDTH,
    "MODEL.SUBNETWORKS": (
        lambda v: 1 <= len(v) <= 3 and set(v) <= {"unet", "orsnet"},
        "one to three of unet and orsnet",
    ),
    "OPTIM.BATCH_SIZE": _AT_LEAST_1,
    "OPTIM.NUM_EPOCHS": _AT_LEAST_1,
    "OPTIM.NUM_ITERATIONS": _AT_LEAST_0,
    "OPTIM.LR_INITIAL": (lambda v: v > 0, "greater than 0"),
    "OPTIM.LR_MIN": _AT_LEAST_0,
    "OPTIM.BETA1": _PART,
    "OPTIM.WEIGHT_DECAY": _AT_LEAST_0,
    "OPTIM.WARMUP_EPOCHS": _AT_LEAST_0,
    "OPTIM.COSINE_EXTRA_EPOCHS": _AT_LEAST_0,
    "OPTIM.GRAD_CLIP": _AT_LEAST_0,
    "OPTIM.ACCUMULATE": _AT_LEAST_1,
    "OPTIM.EMA": _PART,
    "LOSS.EDGE_WEIGHT": _AT_LEAST_0,
    "AUGMENT.SATURATION": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1], "two numbers, 0 <= low <= high"),
    "AUGMENT.MIXUP_FROM_EPOCH": _AT_LEAST_0,
    "AUGMENT.MIXUP_ALPHA": (lambda v: v > 0, "greater than 0"),
    "TRAINING.VAL_AFTER_EVERY": _AT_LEAST_1,
    "TRAINING.VAL_TIMES": (lambda v: 1 <= v <= 1000, "from 1 to 1000"),
    "TRAINING.VAL_ALL_FROM": _AT_LEAST_0,
    "TRAINING.PAIRS": _AT_LEAST_0,
    "TRAINING.VAL_PAIRS": _AT_LEAST_0,
    "TRAINING.TRAIN_PS": (lambda v: 8 <= v <= 8192 and v % 8 == 0, "a multiple of 8 from 8 to 8192"),
    "TRAINING.SCENE": (_is_pattern, "a regular expression"),
    "TRAINING.VAL_PS": _AT_LEAST_0,
    "TRAINING.HOLD_OUT": _PART,
    "TRAINING.SAVE_MINUTES": _AT_LEAST_0,
    "TRAINING.SEED": (lambda v: 0 <= v < 2**63, "at least 0 and less than 2^63"),
    "TRAINING.WORKERS": (lambda v: v >= -1, "-1 or more"),
    "TRAINING.ON_BROKEN": (lambda v: v in ("stop", "skip"), "stop or skip"),
    "TRAINING.MAX_BAD_STEPS": _AT_LEAST_1,
    "TRAINING.COMPILE_BUDGET": (lambda v: 0 <= v <= 1, "from 0 to 1"),
    "TRAINING.PRECISION": (lambda v: v in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "SYNTHETIC.DEGRADATION": (
        lambda v: v == "" or set(split_names(v)) <= set(NAMES),
        f"of {', '.join(NAMES)}, comma-separated, or empty",
    ),
    "SYNTHETIC.PICTURES": _AT_LEAST_1,
    "SYNTHETIC.PICTURE_SIZE": _AT_LEAST_1,
    "SYNTHETIC.VAL_SIGMA": (lambda v: 0 <= v <= 255, "from 0 to 255"),
    "SYNTHETIC.SAMPLES_PER_EPOCH": _AT_LEAST_1,
    "SYNTHETIC.SIGMA": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1] <= 255, "two numbers, 0 <= low <= high <= 255"),
    "SYNTHETIC.VAL_PICTURES": _AT_LEAST_1,
}
