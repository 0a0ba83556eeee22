import errno

import pytest

from mprnet import UserError
from mprnet.files import lock_folder

fcntl = pytest.importorskip("fcntl")


@pytest.mark.parametrize(
    ("number", "is_locked"), [(errno.EWOULDBLOCK, True), (errno.ENOSYS, False), (errno.ENOLCK, False)]
)
def test_lock_folder_works_on_a_file_system_without_locks(tmp_path, monkeypatch, number, is_locked):
    def flock(file: object, operation: int) -> None:
        raise OSError(number, "an error of the system")

    monkeypatch.setattr(fcntl, "flock", flock)
    if is_locked:
        with pytest.raises(UserError, match="another program is at work"), lock_folder(tmp_path):
            pass
        return
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").exists()
