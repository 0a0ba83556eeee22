"""MPRNet with the methods of the Hugging Face Hub, where huggingface_hub is installed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mprnet.errors import UserError
from mprnet.model import ablations, network, weights

_ABSENT = 'this needs huggingface_hub 0.26 or newer: pip install "mprnet[hub]", or pip install -e ".[hub]" in a clone.'


class _Absent:
    """Takes the place of huggingface_hub's mixin, and says what is missing."""

    def save_pretrained(self, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)

    def push_to_hub(self, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)


if TYPE_CHECKING:
    Pretrained = _Absent
else:
    try:
        from mprnet.model.hub_mixin import Pretrained
    except (ImportError, TypeError):  # not installed, or a version whose mixin takes no arguments of a class
        Pretrained = _Absent


class MPRNet(network.MPRNet, Pretrained):
    __doc__ = network.MPRNet.__doc__

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> network.MPRNet:
        """Return the network with this configuration, in this class if its form is the paper's."""
        return ablations.build_network(config, network=cls, ablation=AblationMPRNet)


class AblationMPRNet(ablations.AblationMPRNet, MPRNet):
    __doc__ = ablations.AblationMPRNet.__doc__


def load_model(path: str | Path) -> network.MPRNet:
    """As mprnet.model.weights.load_model; the network has the methods of the Hub."""
    return weights.load_model(path, MPRNet.build)
