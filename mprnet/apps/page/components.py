"""What a visitor sees on the page (in Gradio)."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from mprnet.data.kinds import picture_suffixes

EARLIER_STAGES, LAST_STAGE = (1, 2), "last"


@dataclass(frozen=True)
class Choices:
    """The components that say what to restore, and how."""

    files: gr.File
    examples: dict[str, gr.Dataset]
    task: gr.Radio
    weights: gr.Dropdown
    stage: gr.Radio
    local_pooling: gr.Checkbox
    ensemble: gr.Checkbox
    strength: gr.Slider
    restore: gr.Button
    cancel: gr.Button

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The components whose values a run depends on."""
        how = [self.task, self.weights, self.stage, self.local_pooling, self.ensemble, self.strength]
        return [self.files, *how]


@dataclass(frozen=True)
class Results:
    """The components that show what a run has done."""

    status: gr.HTML
    comparison: gr.Column
    picture: gr.Dropdown
    slider: gr.ImageSlider
    files: gr.File


def add_choices(
    a: argparse.Namespace,
    tasks: Sequence[str],
    task: str,
    weights: Sequence[str],
    default_weights: str | None,
    thumbnails: dict[str, list[str]],
) -> Choices:
    """Add the choices to the page. Each is explained in half a sentence.

    Args:
        a: the command line. It sets what is chosen at first.
        tasks: those to choose from.
        task: the one that is chosen at first, with these ``weights`` and ``default_weights``.
        thumbnails: files of the examples, by task.
    """
    stage = a.stage if a.stage in EARLIER_STAGES else LAST_STAGE
    return Choices(
        gr.File(label="Pictures", file_count="multiple", file_types=sorted(picture_suffixes()), height=160),
        _add_examples(thumbnails),
        gr.Radio(tasks, value=task, label="Task", info="what to take out of the pictures"),
        gr.Dropdown(
            weights,
            value=default_weights,
            label="Weights",
            info="lite is faster, plus is mostly better, published is the paper's network",
            filterable=False,
        ),
        gr.Radio(
            [*EARLIER_STAGES, LAST_STAGE], value=stage, label="Stage", info="an earlier one is faster but less good"
        ),
        gr.Checkbox(
            a.local_pooling or a.training_patch is not None,
            label="Local pooling",
            info="looks at each region by itself: better for deblurring photographs",
        ),
        gr.Checkbox(
            a.ensemble, label="Ensemble", info="the mean of eight turned copies: a little better, eight times as long"
        ),
        gr.Slider(0, 1, a.strength, step=0.05, label="Strength", info="less keeps more of the original"),
        *_add_buttons(),
    )


def _add_examples(thumbnails: dict[str, list[str]]) -> dict[str, gr.Dataset]:
    """Add a group of thumbnails for each task. A click on one gives its number in the group, from 0."""
    if not thumbnails:
        return {}
    with gr.Row(elem_id="examples"):
        return {
            task: gr.Dataset(
                label=f"Try {task}",
                components=[gr.Image(visible=False, show_label=False)],
                samples=[[file] for file in files],
                type="index",
                min_width=90,
            )
            for task, files in thumbnails.items()
        }


def _add_buttons() -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return (
            gr.Button("Restore", variant="primary", interactive=False, min_width=120),
            gr.Button("Cancel", min_width=120),
        )


def add_results() -> Results:
    """Add the place for results to the page."""
    # With no text, Gradio would leave out this half of the page, and add it when the first run begins.
    status = gr.HTML("<p>Results appear here.</p>", elem_id="status", container=False)
    with gr.Column(visible=False) as comparison:
        return Results(
            status,
            comparison,
            gr.Dropdown([], label="Before and after", filterable=False),
            gr.ImageSlider(show_label=False, interactive=False, buttons=["fullscreen"], max_height=600),
            gr.File(label="Results, at full depth", file_count="multiple", interactive=False, elem_id="results"),
        )
