"""The page's components, and what they do (in Gradio)."""

import argparse
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from mprnet.apps.page import look
from mprnet.apps.page.restoring import Choice, Run
from mprnet.apps.page.sessions import Sessions
from mprnet.errors import UserError
from mprnet.tasks import available_weights

_LARGEST_UPLOAD = "512mb"  # of one picture
_MOST_PICTURES = 100  # that a visitor can restore at a time
_LONGEST_QUEUE = 64  # visitors who wait
_EARLIER, _LAST = (1, 2), "last"


class Page:
    """The page: its components and their callbacks.

    Args:
        folder: the folder that holds the tasks' folders.
        tasks: their names.
        a: the command line. It sets the first choices.
        sessions: restores the pictures.

    Raises:
        UserError: no task has weights.
    """

    def __init__(self, folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions) -> None:
        self._folder = folder
        self._tasks = tasks
        self._a = a
        self._sessions = sessions
        if not self._tasks_with_weights():
            raise UserError("no task has weights in its pretrained_models; README.md says where to get them.")
        with gr.Blocks(title="MPRNet", analytics_enabled=False) as self.blocks:
            gr.Markdown("# MPRNet\nDrop pictures, choose how to restore them, and compare.")
            with gr.Row():
                with gr.Column(min_width=300):
                    self._add_choices()
                with gr.Column(min_width=300):
                    self._add_results()
            self._connect()
        self.blocks.queue(max_size=_LONGEST_QUEUE, default_concurrency_limit=1)
        # Unless this is set, Gradio accepts any file of this machine as an upload. Mounting a page does not set it.
        self.blocks.has_launched = True

    def _add_choices(self) -> None:
        self._files = gr.File(label="Pictures", file_count="multiple", height=160)
        tasks = self._tasks_with_weights()
        task = self._a.task if self._a.task in tasks else tasks[0]
        self._task = gr.Radio(tasks, value=task, label="Task")
        self._kind = gr.Dropdown(
            list(self._weights(task)), value=self._default_weights(task), label="Weights", filterable=False
        )
        stage = self._a.stage if self._a.stage in _EARLIER else _LAST
        self._stage = gr.Radio([*_EARLIER, _LAST], value=stage, label="Stage", info="earlier ones are faster")
        pooling = self._a.local_pooling or self._a.training_patch is not None
        self._pooling = gr.Checkbox(pooling, label="Local pooling", info="for deblurring photographs")
        self._ensemble = gr.Checkbox(self._a.ensemble, label="Ensemble", info="a little better, eight times as long")
        with gr.Row():
            self._go = gr.Button("Restore", variant="primary", interactive=False, min_width=120)
            self._stop = gr.Button("Cancel", min_width=120)

    def _add_results(self) -> None:
        self._status = gr.HTML(elem_id="status", container=False)
        with gr.Column(visible=False) as self._comparison:
            self._picture = gr.Dropdown([], label="Before and after", filterable=False)
            self._slider = gr.ImageSlider(show_label=False, interactive=False, buttons=["fullscreen"], max_height=600)
            self._results = gr.File(
                label="Results, at full depth", file_count="multiple", interactive=False, elem_id="results"
            )

    def _connect(self) -> None:
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.blocks.load(self._refresh, self._task, [self._task, self._kind], **quick)
        self._task.change(self._refresh, self._task, [self._task, self._kind], **quick)
        self._files.change(self._note_uploads, self._files, self._go, **quick)
        self._picture.input(self._show, self._picture, self._slider, **quick)
        choices = [self._files, self._task, self._kind, self._stage, self._pooling, self._ensemble]
        outputs = [self._status, self._comparison, self._picture, self._slider, self._results]
        # Gradio shows waiting visitors their position in the queue, in the place of the status.
        run = self._go.click(
            self._restore,
            choices,
            outputs,
            show_progress_on=self._status,
            concurrency_limit=1,
            api_visibility="private",
        )
        self._stop.click(self._cancel, None, self._status, cancels=[run], **quick)
        self.blocks.unload(self._leave)

    def _weights(self, task: str) -> dict[str, Path]:
        """Return the weights that a visitor can choose for a task, by the name that the page shows."""
        named = {self._a.weights.name: self._a.weights} if self._a.weights and task == self._a.task else {}
        return named | available_weights(self._folder / task)

    def _tasks_with_weights(self) -> list[str]:
        return [task for task in self._tasks if self._weights(task)]

    def _default_weights(self, task: str) -> str | None:
        available = list(self._weights(task))
        return self._a.grade if self._a.grade in available else next(iter(available), None)

    def _refresh(self, task: str) -> tuple[Any, Any]:
        """Return the choices of tasks and weights that are on the disk now."""
        return gr.update(choices=self._tasks_with_weights()), gr.update(
            choices=list(self._weights(task)), value=self._default_weights(task)
        )

    def _note_uploads(self, files: list[str] | None, request: gr.Request) -> Any:
        self._sessions.note_uploads(_visitor_id(request), [Path(file) for file in files or ()])
        return gr.update(interactive=bool(files))

    def _restore(
        self,
        files: list[str] | None,
        task: str,
        kind: str,
        stage: int | str,
        pooling: bool,
        ensemble: bool,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        uploads = [Path(file) for file in files or ()]
        try:
            if len(uploads) > _MOST_PICTURES:
                raise UserError(
                    f"these are {len(uploads)} pictures; at most {_MOST_PICTURES} can be restored at a time."
                )
            if kind not in self._weights(task):
                raise UserError(f"there are no {kind} weights for {task}; load the page again.")
        except UserError as error:
            yield {self._status: f"<p>{escape(str(error))}</p>"}
            return
        weights = self._weights(task)[kind]
        choice = Choice(task, weights, None if stage == _LAST else int(stage), pooling, ensemble)
        results_shown = 0
        for run in self._sessions.restore(_visitor_id(request), uploads, choice):
            update: dict[Any, Any] = {self._status: look.format_status(run)}
            if len(run.results) != results_shown:
                update |= self._show_new_results(run, is_first=results_shown == 0)
                results_shown = len(run.results)
            yield update

    def _show_new_results(self, run: Run, is_first: bool) -> dict[Any, Any]:
        names = list(run.results)
        update = {
            self._comparison: gr.update(visible=True),
            self._picture: gr.update(choices=names),
            self._results: [str(path) for path in run.results.values()],
        }
        if is_first:
            update[self._picture] = gr.update(choices=names, value=names[0])
            update[self._slider] = _get_previews(run, names[0])
        return update

    def _show(self, name: str, request: gr.Request) -> Any:
        run = self._sessions.latest(_visitor_id(request))
        return _get_previews(run, name) if run is not None and name in run.previews else None

    def _cancel(self, request: gr.Request) -> str:
        self._sessions.cancel(_visitor_id(request))
        run = self._sessions.latest(_visitor_id(request))
        return "<p>Cancelled.</p>" if run is None else look.format_status(run)

    def _leave(self, request: gr.Request) -> None:
        self._sessions.leave(_visitor_id(request))


def _get_previews(run: Run, name: str) -> tuple[str, str]:
    before, after = run.previews[name]
    return str(before), str(after)


def _visitor_id(request: gr.Request) -> str:
    return str(request.session_hash)


def build_app(folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions) -> FastAPI:
    """Return the page as a web application; arguments and errors as for Page."""
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        Page(folder, tasks, a, sessions).blocks,
        path="/",
        footer_links=[],
        show_error=False,
        max_file_size=_LARGEST_UPLOAD,
        ssr_mode=False,
        theme=look.make_theme(),
        css=look.CSS,
    )
