"""huggingface_hub's mixin with the project's own reading and writing of weights. Only hub.py imports this."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from mprnet.errors import UserError, one_line
from mprnet.files import write_atomically
from mprnet.model.weights import load_model, save_weights

Model = TypeVar("Model", bound="Pretrained")
_FILES = (constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME)


# For the model card, which is written if a folder has no README.md.
_CARD: dict[str, Any] = dict(
    library_name="mprnet",
    paper_url="https://arxiv.org/abs/2102.02808",
    pipeline_tag="image-to-image",
    tags=["image-restoration"],
)


class Pretrained(PyTorchModelHubMixin, **_CARD):
    """The mixin, with files that mprnet.save_weights writes and mprnet.load_model reads.

    So files hold all published keys and the metadata, and no code in a file is run.
    """

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> Any:
        """Return the network with this configuration. mprnet.model.hub.MPRNet defines it."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        model: Any = self
        save_weights(model, save_directory / _FILES[0])
        # The mixin itself would write the arguments of the first call, and none for copies.
        write_atomically(save_directory / constants.CONFIG_NAME, json.dumps(model.config, indent=2).encode())

    @classmethod
    def from_pretrained(cls: type[Model], *arguments: Any, **options: Any) -> Model:
        """Load the network in a folder or in a repository of the Hub; arguments as for the mixin's method.

        Raises:
            UserError: config.json is not JSON, or no configuration; or as load_model; or the weights do not fit the
                configuration.
        """
        try:
            return super().from_pretrained(*arguments, **options)
        except (UserError, HFValidationError, OSError):
            raise
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{constants.CONFIG_NAME} is not JSON, or no configuration ({one_line(error)}); copy or download it "
                "again."
            ) from error

    @classmethod
    def _from_pretrained(
        cls: type[Model],
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = True,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **arguments: Any,
    ) -> Model:
        """What the mixin's from_pretrained calls. ``strict`` has no effect: weights always have to fit."""
        download = dict(
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        for name in ("proxies", "resume_download"):  # the mixin passes them before huggingface_hub 1.0
            arguments.pop(name, None)
        path = _find_weights(model_id, download)
        loaded = load_model(path)
        config = {**loaded.config, **arguments}
        try:
            with torch.device("meta"):  # so that a wrong configuration takes no memory
                fits = _shapes(cls.build(config)) == _shapes(loaded)
            if not fits:
                raise ValueError("its tensors have other shapes")
            model = cls.build(config)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            message = f"{one_line(arguments)} ({one_line(error)})"
            raise UserError(f"{path} does not fit its {constants.CONFIG_NAME}: {message}.") from error
        model.load_state_dict(loaded.state_dict())
        model.metadata = loaded.metadata
        return model.to(map_location).eval()


def _shapes(model: Any) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


def _find_weights(model_id: str, download: dict[str, Any]) -> Path:
    """Return the file of weights in a folder or in a repository of the Hub; safetensors first."""
    folder = Path(model_id)
    if folder.is_dir():
        return next((folder / name for name in _FILES if (folder / name).exists()), folder / _FILES[0])
    try:
        return Path(hf_hub_download(model_id, _FILES[0], **download))
    except EntryNotFoundError:
        return Path(hf_hub_download(model_id, _FILES[1], **download))
