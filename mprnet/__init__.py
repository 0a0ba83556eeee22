"""MPRNet: multi-stage progressive image restoration (Zamir et al., CVPR 2021)."""

from mprnet import metrics
from mprnet.api import load_model, read_photo, restore, write_photo
from mprnet.data.photos import Photo
from mprnet.errors import UserError
from mprnet.inference.restorer import Restorer
from mprnet.model.hub import AblationMPRNet, MPRNet
from mprnet.model.weights import save_weights

__all__ = [
    "AblationMPRNet",
    "MPRNet",
    "Photo",
    "Restorer",
    "UserError",
    "load_model",
    "metrics",
    "read_photo",
    "restore",
    "save_weights",
    "write_photo",
]
