"""huggingface_hub's mixin over our own reading and writing of weights; imported by hub.py alone, where it can be."""

import json
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from mprnet.errors import UserError
from mprnet.files import write_whole

Model = TypeVar("Model", bound="Pretrained")
_FILES = (constants.SAFETENSORS_SINGLE_FILE, constants.PYTORCH_WEIGHTS_NAME)


# Of the card that is written where a folder has no README.md yet.
_CARD: dict[str, Any] = dict(
    library_name="mprnet",
    paper_url="https://arxiv.org/abs/2102.02808",
    pipeline_tag="image-to-image",
    tags=["image-restoration"],
)


class Pretrained(PyTorchModelHubMixin, **_CARD):
    """The mixin as it is, but that files are those of mprnet.save_weights and read by mprnet.load_model: all published
    keys, metadata, and no code that a file could hold is run."""

    def _save_pretrained(self, save_directory: Path) -> None:
        from mprnet.model.weights import save_weights  # not above: it imports the network, and that this class

        model: Any = self
        save_weights(model, save_directory / _FILES[0])
        # What the mixin noted are the arguments of the first call, and none for copies.
        write_whole(save_directory / constants.CONFIG_NAME, json.dumps(model.config, indent=2).encode())

    @classmethod
    def from_pretrained(cls: type[Model], *arguments: Any, **options: Any) -> Model:
        """As the mixin's: a folder or the name of a repository, and what config.json says otherwise.

        Raises:
            UserError: config.json is none; else as ``_from_pretrained``.
        """
        try:
            return super().from_pretrained(*arguments, **options)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"the {constants.CONFIG_NAME} is no JSON ({error}); copy or download it again.") from error

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
        """Always strict: weights that do not fit are no MPRNet's.

        Raises:
            UserError: as load_model; or what config.json or the caller says does not fit to the weights.
        """
        from mprnet.model.weights import load_model

        download = dict(
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        for name in ("proxies", "resume_download"):  # which the mixin hands on before huggingface_hub 1.0
            arguments.pop(name, None)
        path = _locate(model_id, download)
        loaded = load_model(path)
        try:
            model: Any = cls(**{**loaded.config, **arguments})
            model.load_state_dict(loaded.state_dict())
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} does not fit to its {constants.CONFIG_NAME}: {arguments}.") from error
        model.metadata = loaded.metadata
        return model.to(map_location).eval()


def _locate(model_id: str, download: dict[str, Any]) -> Path:
    """The weights in a folder, or in a repository of the Hub; safetensors if there are."""
    folder = Path(model_id)
    if folder.is_dir():
        return next((folder / name for name in _FILES if (folder / name).exists()), folder / _FILES[0])
    try:
        return Path(hf_hub_download(model_id, _FILES[0], **download))
    except EntryNotFoundError:
        return Path(hf_hub_download(model_id, _FILES[1], **download))
