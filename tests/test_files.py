import errno

import pytest

from mprnet import UserError
from mprnet.files import lock_folder

fcntl = pytest.importorskip("fcntl")


@pytest.mark.parametrize(
    ("number", "refused"), [(errno.EWOULDBLOCK, True), (errno.ENOSYS, False), (errno.ENOLCK, False)]
)
def test_a_file_system_without_locks_is_not_somebody_at_work(tmp_path, monkeypatch, number, refused):
    def flock(file: object, how: int) -> None:
        raise OSError(number, "as the system says")

    monkeypatch.setattr(fcntl, "flock", flock)
    if refused:
        with pytest.raises(UserError, match="another program is at work"), lock_folder(tmp_path):
            pass
        return
    with lock_folder(tmp_path):
        assert (tmp_path / ".lock").exists()
