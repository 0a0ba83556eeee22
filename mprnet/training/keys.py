"""All settings: their defaults, meanings and ranges."""

import re
from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from mprnet.data.synthetic.degradations import NAMES, split_names
from mprnet.training.measures import MEASURES
from mprnet.training.optimizer import OPTIMIZERS


def get_defaults() -> CfgNode:
    """Return all settings with their default values."""
    c = CfgNode()
    # Numbers of the GPUs to use. Each process of torchrun uses one of them. Without torchrun, the first one is used.
    # [-1]: all GPUs. On a machine without GPUs, the CPU is used.
    c.GPU = [-1]
    c.VERBOSE = False  # print the network before training

    c.MODEL = CfgNode()
    c.MODEL.MODE = ""  # the task; results are written to SAVE_DIR/MODE/models/SESSION
    c.MODEL.SESSION = "MPRNet"  # the name of this run
    # The network's widths. -1: as in the task's MPRNet.py.
    c.MODEL.N_FEAT = -1
    c.MODEL.SCALE_UNETFEATS = -1
    c.MODEL.SCALE_ORSNETFEATS = -1
    c.MODEL.NUM_CAB = -1
    # The network's form (Table 6): the subnetwork of each stage, unet or orsnet; supervised attention modules;
    # cross-stage feature fusion.
    c.MODEL.SUBNETWORKS = ["unet", "unet", "orsnet"]
    c.MODEL.SAM = True
    c.MODEL.CSFF = True

    c.OPTIM = CfgNode()
    c.OPTIM.BATCH_SIZE = 16  # samples of all processes together
    c.OPTIM.NUM_EPOCHS = 100
    # Steps. If not 0, it replaces NUM_EPOCHS: the number of epochs is the lowest that makes at least so many steps.
    c.OPTIM.NUM_ITERATIONS = 0
    c.OPTIM.LR_INITIAL = 2e-4  # the highest learning rate, after the warm-up
    c.OPTIM.LR_MIN = 1e-6  # the learning rate at the end of the cosine
    # adam, as in the paper, or muon, which needs far fewer steps: Muon for kernels of convolutions, Adam for all else.
    c.OPTIM.OPTIMIZER = "adam"
    c.OPTIM.BETA1 = 0.9  # of Adam
    c.OPTIM.WEIGHT_DECAY = 0.0
    c.OPTIM.WARMUP_EPOCHS = 3  # the learning rate rises linearly in these epochs, then falls by a cosine
    c.OPTIM.COSINE_EXTRA_EPOCHS = 0  # the cosine ends so many epochs after the training
    c.OPTIM.GRAD_CLIP = 0.0  # maximum norm of the gradient; 0: no clipping
    c.OPTIM.ACCUMULATE = 1  # gradient accumulation: a batch is computed in so many parts
    # Decay of an exponential moving average (EMA) of the weights. The EMA is then validated and saved instead of the
    # trained weights. 0: no EMA.
    c.OPTIM.EMA = 0.0

    c.LOSS = CfgNode()
    c.LOSS.EDGE_WEIGHT = 0.05  # weight of the edge loss (Equation 1)
    c.LOSS.CLAMP = False  # clamp outputs to [0, 1] before computing the loss

    c.AUGMENT = CfgNode()
    c.AUGMENT.SATURATION = [1.0, 1.0]  # range of the saturation factor; a third of the samples get one
    c.AUGMENT.MIXUP_FROM_EPOCH = 0  # first epoch with MixUp; 0: no MixUp
    c.AUGMENT.MIXUP_ALPHA = 0.6  # MixUp weights are drawn from Beta(alpha, alpha)

    c.TRAINING = CfgNode()
    c.TRAINING.VAL_AFTER_EVERY = 1  # validate after every so many epochs
    c.TRAINING.VAL_TIMES = 1  # validations in each epoch that is validated, at equal distances
    # If VAL_EPOCHS is not empty, it replaces VAL_AFTER_EVERY: these epochs are validated. If VAL_ALL_FROM is not 0, all
    # epochs from VAL_ALL_FROM on are validated too. The last epoch is always validated at its end.
    c.TRAINING.VAL_EPOCHS = []
    c.TRAINING.VAL_ALL_FROM = 0
    # The PSNR that chooses model_best.pth: rgb, as in the released code, or luma, as deraining is scored. Validation
    # reports both if the task's benchmarks.yml has measure: luma, else only rgb and this one.
    c.TRAINING.BEST_BY = "rgb"
    c.TRAINING.RESUME = False  # True: continue from model_latest.pth; auto: if there is one, else start
    c.TRAINING.INIT_WEIGHTS = ""  # start from these weights, with a new optimizer
    c.TRAINING.TRAIN_PS = 256  # height and width of the training patches
    c.TRAINING.VAL_PS = 0  # height and width of the centre crop for validation; 0: whole images
    c.TRAINING.TRAIN_DIR = ""  # a folder with input/ and target/
    c.TRAINING.VAL_DIR = ""  # another one, for validation
    c.TRAINING.ELSE_IN = ""  # if TRAIN_DIR or VAL_DIR does not exist, look for it in this folder
    # A folder for prepared pictures (train.py --prepare), of this TRAIN_DIR alone. Empty: pictures are decoded each
    # time that a sample is taken from them.
    c.TRAINING.CACHE_DIR = ""
    c.TRAINING.CACHE_GIB = 0.0  # the most space for prepared pictures in GiB; 0: no limit
    c.TRAINING.PAIRS = 0  # number of pairs in the published data set, for --check; 0: not known
    c.TRAINING.VAL_PAIRS = 0  # the same for VAL_DIR
    c.TRAINING.HOLD_OUT = 0.0  # fraction of the training scenes to hold out and validate on, instead of VAL_DIR
    # A regular expression. What it matches at the start of a picture's name is the scene. If it has groups, the
    # scene is the first group that matches.
    c.TRAINING.SCENE = ".*"
    c.TRAINING.PAIR_BY_ORDER = False  # the n-th input belongs to the n-th target; names do not matter
    c.TRAINING.PAIR_MANY_TO_ONE = False  # several inputs may have one target: 1_1.jpg and 1_2.jpg belong to 1.jpg
    c.TRAINING.SAVE_DIR = "./checkpoints"  # where all results go
    c.TRAINING.SAVE_IMAGES = False  # write the result for every validation picture, not only validation.png
    c.TRAINING.SAVE_MINUTES = 15.0  # minutes between checkpoints within an epoch
    c.TRAINING.LOG_STEPS = 100  # steps between rows of the log within an epoch; 0: only epochs and validations
    c.TRAINING.KEEP_EPOCHS = 0  # number of files model_epoch_N.pth to keep, the newest; 0: all
    c.TRAINING.SEED = 1234  # of all random numbers
    c.TRAINING.WORKERS = -1  # processes that read pictures; -1: all cores but two, at most 12
    c.TRAINING.ON_BROKEN = "stop"  # what to do if a picture cannot be read: stop or skip
    c.TRAINING.MAX_BAD_STEPS = 25  # stop the run after so many skipped steps in a row (loss not finite or too large)
    c.TRAINING.PRECISION = "fp32"  # or bf16 or fp16, by autocast; the loss is always in fp32
    c.TRAINING.COMPILE = False  # use torch.compile: takes minutes at the start; then steps are faster
    # With COMPILE: the fraction of the activations' memory that may be used. Activations that do not fit are recomputed
    # in the backward pass.
    c.TRAINING.COMPILE_BUDGET = 0.9
    c.TRAINING.CHECKPOINTING = False  # recompute activations in the backward pass: less memory, 1/6 more time

    c.SYNTHETIC = CfgNode()  # generated pictures (mprnet/data/synthetic), instead of TRAIN_DIR and VAL_DIR
    # noise, camera_noise, processed_noise, rain, camera_shake or motion_blur, or several of them, comma-separated.
    # Empty: no generated pictures.
    c.SYNTHETIC.DEGRADATION = ""
    c.SYNTHETIC.BANK_DIR = "./Datasets/synthetic"  # where generated pictures are stored
    c.SYNTHETIC.PICTURES = 2000  # number of training pictures
    c.SYNTHETIC.PICTURE_SIZE = 256  # their height and width
    c.SYNTHETIC.SAMPLES_PER_EPOCH = 4000
    c.SYNTHETIC.SIGMA = [0.0, 55.0]  # of Gaussian noise, in grey levels (0 to 255): drawn uniformly from this range
    c.SYNTHETIC.VAL_PICTURES = 16  # number of validation pictures
    c.SYNTHETIC.VAL_SIGMA = 25.0  # of Gaussian noise in validation pictures
    return c


# Settings that are paths.
PATHS = (
    "SYNTHETIC.BANK_DIR",
    *(f"TRAINING.{k}" for k in ("TRAIN_DIR", "VAL_DIR", "ELSE_IN", "CACHE_DIR", "SAVE_DIR", "INIT_WEIGHTS")),
)


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


_AT_LEAST_1 = (lambda v: v >= 1, "at least 1")
_AT_LEAST_0 = (lambda v: v >= 0, "at least 0")
_WIDTH = (lambda v: -1 <= v <= 4096, "from 0 to 4096, or -1 for the task's own")
_FRACTION = (lambda v: 0 <= v < 1, "at least 0 and less than 1")
_NAME = (lambda v: re.fullmatch(r"[^./\\][^/\\]{0,99}|", v) is not None, "a plain name, without folders")
# For each setting with a range: a function that checks a value, and the range in words.
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
    "OPTIM.OPTIMIZER": (lambda v: v in OPTIMIZERS, " or ".join(OPTIMIZERS)),
    "OPTIM.BETA1": _FRACTION,
    "OPTIM.WEIGHT_DECAY": _AT_LEAST_0,
    "OPTIM.WARMUP_EPOCHS": _AT_LEAST_0,
    "OPTIM.COSINE_EXTRA_EPOCHS": _AT_LEAST_0,
    "OPTIM.GRAD_CLIP": _AT_LEAST_0,
    "OPTIM.ACCUMULATE": _AT_LEAST_1,
    "OPTIM.EMA": _FRACTION,
    "LOSS.EDGE_WEIGHT": _AT_LEAST_0,
    "AUGMENT.SATURATION": (lambda v: len(v) == 2 and 0 <= v[0] <= v[1], "two numbers, 0 <= low <= high"),
    "AUGMENT.MIXUP_FROM_EPOCH": _AT_LEAST_0,
    "AUGMENT.MIXUP_ALPHA": (lambda v: v > 0, "greater than 0"),
    "TRAINING.VAL_AFTER_EVERY": _AT_LEAST_1,
    "TRAINING.VAL_TIMES": (lambda v: 1 <= v <= 1000, "from 1 to 1000"),
    "TRAINING.VAL_ALL_FROM": _AT_LEAST_0,
    "TRAINING.BEST_BY": (lambda v: v in MEASURES, " or ".join(MEASURES)),
    "TRAINING.CACHE_GIB": _AT_LEAST_0,
    "TRAINING.PAIRS": _AT_LEAST_0,
    "TRAINING.VAL_PAIRS": _AT_LEAST_0,
    "TRAINING.TRAIN_PS": (lambda v: 8 <= v <= 8192 and v % 8 == 0, "a multiple of 8 from 8 to 8192"),
    "TRAINING.SCENE": (_is_regex, "a regular expression"),
    "TRAINING.VAL_PS": _AT_LEAST_0,
    "TRAINING.HOLD_OUT": _FRACTION,
    "TRAINING.SAVE_MINUTES": _AT_LEAST_0,
    "TRAINING.KEEP_EPOCHS": _AT_LEAST_0,
    "TRAINING.LOG_STEPS": _AT_LEAST_0,
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
