"""MPRNet: multi-stage progressive image restoration (Zamir et al., CVPR 2021)."""

from mprnet import metrics
from mprnet.errors import UserError
from mprnet.inference.restorer import Restorer
from mprnet.model.network import MPRNet
from mprnet.model.weights import load_model, save_weights

__all__ = ["MPRNet", "Restorer", "UserError", "load_model", "metrics", "save_weights"]
