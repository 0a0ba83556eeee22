"""The sizes of the paper's three networks, and the published network, which is in the package spandrel_extra_arches."""

import torch

from mprnet import MPRNet

# Constructor arguments.
WIDTHS = {"Deblurring": (96, 48, 32, 8), "Denoising": (80, 48, 32, 8), "Deraining": (40, 20, 16, 8)}
# These, and a network to rehearse measurements with.
NETWORKS = {**WIDTHS, "tiny": (8, 4, 4, 1)}


def load_published(model: MPRNet, device: torch.device | str = "cpu") -> torch.nn.Module:
    """Return the published network with the weights of ``model``."""
    import spandrel
    import spandrel_extra_arches

    spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel.ModelLoader(device).load_from_state_dict(model.state_dict()).model
