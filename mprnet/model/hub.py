"""Folders as the Hugging Face Hub holds them, where huggingface_hub is installed: what MPRNet inherits."""

from typing import TYPE_CHECKING, Any

from mprnet.errors import UserError

__all__ = ["Absent", "Pretrained"]

_ABSENT = 'this takes huggingface_hub 0.26 or newer, which is not installed here: pip install -e ".[hub]".'


class Absent:
    """In the place of huggingface_hub's mixin, says what is missing."""

    def save_pretrained(self, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)

    def push_to_hub(self, *arguments: Any, **options: Any) -> Any:
        raise UserError(_ABSENT)


if TYPE_CHECKING:
    Pretrained = Absent
else:
    try:
        from mprnet.model.hub_mixin import Pretrained
    except (ImportError, TypeError):  # not there, or from before it took arguments of a class
        Pretrained = Absent
