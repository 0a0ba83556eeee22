"""What the page shows, and what its buttons do."""

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

# Of one picture; how many may come at a time; and how many visitors may wait for their turn.
_LARGEST_UPLOAD = "512mb"
_MOST_PICTURES = 100
_LONGEST_QUEUE = 64
_EARLIER, _LAST = (1, 2), "last"


class Page:
    """The page's components, and what happens on them.

    Args:
        folder: the folder that holds the tasks' folders.
        tasks: their names.
        a: the command line, which says what is chosen at first.
        sessions: where the pictures go.
    """

    def __init__(self, folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions) -> None:
        self._folder = folder
        self._tasks = tasks
        self._a = a
        self._sessions = sessions
        if not self._ready():
            raise UserError("no task has weights in its pretrained_models; README.md says where to get them.")
        with gr.Blocks(title="MPRNet", analytics_enabled=False) as self.blocks:
            gr.Markdown("# MPRNet\nDrop pictures, choose what to do to them, and compare.")
            with gr.Row():
                with gr.Column(min_width=300):
                    self._add_choices()
                with gr.Column(min_width=300):
                    self._add_results()
            self._connect()
        self.blocks.queue(max_size=_LONGEST_QUEUE, default_concurrency_limit=1)
        # Gradio takes any file of this machine for an upload unless this is set, which mounting a page does not do.
        self.blocks.has_launched = True

    def _add_choices(self) -> None:
        self._files = gr.File(label="Pictures", file_count="multiple", height=160)
        tasks = self._ready()
        task = self._a.task if self._a.task in tasks else tasks[0]
        self._task = gr.Radio(tasks, value=task, label="Task")
        self._kind = gr.Dropdown(list(self._weights(task)), value=self._first(task), label="Weights", filterable=False)
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
        with gr.Column(visible=False) as self._shown:
            self._picture = gr.Dropdown([], label="Before and after", filterable=False)
            self._slider = gr.ImageSlider(show_label=False, interactive=False, buttons=["fullscreen"], max_height=600)
            self._results = gr.File(
                label="Results, at full depth", file_count="multiple", interactive=False, elem_id="results"
            )

    def _connect(self) -> None:
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.blocks.load(self._reread, self._task, [self._task, self._kind], **quick)
        self._task.change(self._reread, self._task, [self._task, self._kind], **quick)
        self._files.change(self._note_files, self._files, self._go, **quick)
        self._picture.input(self._show, self._picture, self._slider, **quick)
        choices = [self._files, self._task, self._kind, self._stage, self._pooling, self._ensemble]
        outputs = [self._status, self._shown, self._picture, self._slider, self._results]
        # While one runs, Gradio shows the others their place in the queue, over the status.
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
        """What can be chosen for a task, by the name it is shown under."""
        named = {self._a.weights.name: self._a.weights} if self._a.weights and task == self._a.task else {}
        return named | available_weights(self._folder / task)

    def _ready(self) -> list[str]:
        return [task for task in self._tasks if self._weights(task)]

    def _first(self, task: str) -> str | None:
        there = list(self._weights(task))
        return self._a.grade if self._a.grade in there else next(iter(there), None)

    def _reread(self, task: str) -> tuple[Any, Any]:
        """Tasks and weights as they are on the disk now."""
        return gr.update(choices=self._ready()), gr.update(choices=list(self._weights(task)), value=self._first(task))

    def _note_files(self, files: list[str] | None, request: gr.Request) -> Any:
        self._sessions.note_uploads(_visitor(request), [Path(file) for file in files or ()])
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
                raise UserError(f"these are {len(uploads)} pictures; {_MOST_PICTURES} can come at a time.")
            if kind not in self._weights(task):
                raise UserError(f"there are no {kind} weights for {task}; load the page again.")
        except UserError as error:
            yield {self._status: f"<p>{escape(str(error))}</p>"}
            return
        weights = self._weights(task)[kind]
        choice = Choice(task, weights, None if stage == _LAST else int(stage), pooling, ensemble)
        shown = 0
        for run in self._sessions.restore(_visitor(request), uploads, choice):
            update: dict[Any, Any] = {self._status: look.status(run)}
            if len(run.results) != shown:
                update |= self._grown(run, is_first=shown == 0)
                shown = len(run.results)
            yield update

    def _grown(self, run: Run, is_first: bool) -> dict[Any, Any]:
        names = list(run.results)
        update = {
            self._shown: gr.update(visible=True),
            self._picture: gr.update(choices=names),
            self._results: [str(path) for path in run.results.values()],
        }
        if is_first:
            update[self._picture] = gr.update(choices=names, value=names[0])
            update[self._slider] = _pair(run, names[0])
        return update

    def _show(self, name: str, request: gr.Request) -> Any:
        run = self._sessions.latest(_visitor(request))
        return _pair(run, name) if run is not None and name in run.previews else None

    def _cancel(self, request: gr.Request) -> str:
        self._sessions.cancel(_visitor(request))
        run = self._sessions.latest(_visitor(request))
        return "<p>Cancelled.</p>" if run is None else look.status(run)

    def _leave(self, request: gr.Request) -> None:
        self._sessions.leave(_visitor(request))


def _pair(run: Run, name: str) -> tuple[str, str]:
    before, after = run.previews[name]
    return str(before), str(after)


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def build(folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions) -> FastAPI:
    """The page as a web application; as for Page."""
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        Page(folder, tasks, a, sessions).blocks,
        path="/",
        footer_links=[],
        show_error=False,
        max_file_size=_LARGEST_UPLOAD,
        ssr_mode=False,
        theme=look.theme(),
        css=look.CSS,
    )
