import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from mprnet.training import curves
from mprnet.training.curves import draw_curves

RUN = [
    {"epoch": 1, "loss": 0.5},
    {"epoch": 2, "loss": 0.25, "psnr": 21.0, "input_psnr": 20.0},
    {"epoch": 3, "loss": 0.125},
    {"epoch": 4, "loss": 0.1, "psnr": 22.5, "input_psnr": 20.0},
]
OTHER = [{"epoch": 4, "loss": 0.2, "psnr": 19.0, "input_psnr": 18.0}]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """All figures that the test draws."""
    figures: list[Figure] = []

    def make_figure(*arguments, **named):
        figures.append(Figure(*arguments, **named))
        return figures[-1]

    monkeypatch.setattr(curves, "Figure", make_figure)
    return figures


def lines(axes) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): [tuple(map(float, point)) for point in line.get_xydata()] for line in axes.lines}


def legend(axes) -> list[str]:
    return [] if axes.get_legend() is None else [text.get_text() for text in axes.get_legend().get_texts()]


def test_curves_of_one_run(tmp_path, drawn):
    draw_curves(tmp_path / "curves.png", {"restored": RUN})
    (figure,) = drawn
    left, right = figure.axes
    assert lines(left) == {"restored": [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.1)]}
    assert lines(right) == {"restored": [(2, 21.0), (4, 22.5)], "input": [(2, 20.0), (4, 20.0)]}
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "training loss, mean per sample")
    assert (right.get_xlabel(), right.get_ylabel()) == ("epoch", "validation RGB PSNR, dB")
    assert (left.get_yscale(), right.get_yscale()) == ("log", "linear")
    assert (legend(left), legend(right)) == ([], ["restored", "input"])
    assert [line.get_linestyle() for line in right.lines] == ["-", "--"]
    data = (tmp_path / "curves.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert np.frombuffer(data[16:24], ">u4").tolist() == [990, 385]


def test_the_loss_of_the_latest_steps_is_a_pale_line(tmp_path, drawn):
    """Rows of steps have no part in the other line."""
    steps = [{"epoch": part, "loss": 9.0, "recent_loss": part} for part in (0.25, 0.5, 0.75)]
    inside = {"epoch": 1.5, "loss": 0.3, "recent_loss": 1.5, "psnr": 20.5, "input_psnr": 20.0}
    draw_curves(tmp_path / "curves.png", {"restored": [*steps, RUN[0] | {"recent_loss": 1.0}, inside, RUN[1]]})
    main, pale = drawn[0].axes[0].lines
    assert main.get_xydata().tolist() == [[1, 0.5], [1.5, 0.3], [2, 0.25]]
    assert pale.get_xydata().tolist() == [[part, part] for part in (0.25, 0.5, 0.75, 1.0, 1.5)]
    assert pale.get_color() == main.get_color()
    assert pale.get_alpha() < 1


def test_several_runs_have_names_and_one_line_for_the_same_input(tmp_path, drawn):
    draw_curves(tmp_path / "curves.svg", {"one": RUN, "$a_1$": RUN, "other": OTHER})
    left, right = drawn[0].axes
    assert legend(left) == ["one", "$a_1$", "other"]
    assert legend(right) == ["one", "input", "$a_1$", "other"]
    assert len(right.lines) == 5  # three runs and two different inputs
    assert all(not text.get_parse_math() for axes in (left, right) for text in axes.get_legend().get_texts())
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()


def test_lines_have_gaps_between_validation_sets(tmp_path, drawn):
    sets = [1, 1, 2, 2]
    rows = [RUN[1] | {"epoch": epoch, "validation_set": number} for epoch, number in enumerate(sets)]
    draw_curves(tmp_path / "curves.png", {"restored": rows})
    for line in drawn[0].axes[1].lines:
        assert [float(epoch) for epoch in line.get_xdata()] == pytest.approx([0, 1, math.nan, 2, 3], nan_ok=True)
    assert legend(drawn[0].axes[1]) == ["restored", "input"]


def test_a_run_without_a_validation(tmp_path, drawn):
    draw_curves(tmp_path / "curves.pdf", {"restored": RUN[:1]})
    left, right = drawn[0].axes
    assert lines(left) == {"restored": [(1, 0.5)]}
    assert legend(right) == []
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
