"""MPRNet: multi-stage progressive image restoration (Zamir et al., CVPR 2021)."""

from mprnet import metrics
from mprnet.errors import UserError
from mprnet.inference.restorer import Restorer
from mprnet.model.hub import AblationMPRNet, MPRNet, load_model
from mprnet.model.weights import save_weights

__all__ = ["AblationMPRNet", "MPRNet", "Restorer", "UserError", "load_model", "metrics", "save_weights"]
