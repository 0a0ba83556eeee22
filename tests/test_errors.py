import pytest

from mprnet import UserError
from mprnet.errors import escape_controls


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("\x1b[2Jclear.png", "\\x1b[2Jclear.png"),
        ("\x9b2J\x07\r.png", "\\x9b2J\\x07\\x0d.png"),
        ("Über 日本\u200d.png", "Über 日本\u200d.png"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_a_files_name_gives_no_commands_to_a_terminal(name, printed):
    assert escape_controls(name) == printed
    assert str(UserError(f"{name}: is no picture.")) == f"{printed}: is no picture."
