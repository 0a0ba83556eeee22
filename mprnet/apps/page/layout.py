"""The page, and what it does when a visitor changes something (in Gradio)."""

import argparse
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from mprnet.apps.page import look
from mprnet.apps.page.components import LAST_STAGE, add_choices, add_results
from mprnet.apps.page.examples import find_examples
from mprnet.apps.page.restoring import Choice, Run
from mprnet.apps.page.sessions import Sessions
from mprnet.errors import UserError
from mprnet.tasks import available_weights

_LARGEST_UPLOAD = "512mb"  # of one picture
_MOST_PICTURES = 100  # that a visitor can restore at a time


class Page:
    """The page: its components and their callbacks.

    Args:
        folder: the folder that holds the tasks' folders.
        tasks: their names.
        a: the command line. It sets the first choices.
        sessions: restores the pictures.
        samples: as for ``find_examples``.

    Raises:
        UserError: no task has weights.
    """

    def __init__(
        self, folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions, samples: Path | None
    ) -> None:
        self._folder = folder
        self._tasks = tasks
        self._a = a
        self._sessions = sessions
        with_weights = self._tasks_with_weights()
        if not with_weights:
            raise UserError("no task has weights in its pretrained_models; README.md says where to get them.")
        self.examples = find_examples(samples, with_weights)
        task = a.task if a.task in with_weights else with_weights[0]
        with gr.Blocks(title="MPRNet", analytics_enabled=False) as self.blocks:
            gr.Markdown("# MPRNet\nDrop pictures, choose how to restore them, and compare.")
            with gr.Row():
                with gr.Column(min_width=300):
                    weights = list(self._weights(task))
                    self._choices = add_choices(
                        a, with_weights, task, weights, self._default_weights(task), self.examples
                    )
                with gr.Column(min_width=300):
                    self._results = add_results()
            self._connect()
        # All runs go to ``sessions`` at once, which limits how many wait, and in which visitors take turns.
        self.blocks.queue(api_open=False, default_concurrency_limit=None)
        # Unless this is set, Gradio accepts any file of this machine as an upload. Mounting a page does not set it. The
        # gate refuses such requests before.
        self.blocks.has_launched = True

    def _connect(self) -> None:
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        choices, results = self._choices, self._results
        self.blocks.load(self._refresh, choices.task, [choices.task, choices.weights], **quick)
        choices.task.change(self._refresh, choices.task, [choices.task, choices.weights], **quick)
        choices.files.change(self._note_uploads, choices.files, choices.restore, **quick)
        for task, dataset in choices.examples.items():
            dataset.click(partial(self._load_example, task), dataset, [choices.files, choices.task], **quick)
        results.picture.input(self._show, results.picture, results.slider, **quick)
        run = choices.restore.click(
            self._restore,
            choices.inputs,
            [results.status, results.comparison, results.picture, results.slider, results.files],
            show_progress="hidden",
            api_visibility="private",
        )
        choices.cancel.click(self._cancel, None, results.status, cancels=[run], **quick)
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

    def _load_example(self, task: str, number: int) -> tuple[list[str], str]:
        """Return an example as the visitor's pictures, and its task."""
        return [self.examples[task][number]], task

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
        strength: float,
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
            weights = self._weights(task)[kind]
            choice = Choice(task, weights, None if stage == LAST_STAGE else int(stage), pooling, ensemble, strength)
            results_shown = 0
            for run in self._sessions.restore(_visitor_id(request), uploads, choice):
                update: dict[Any, Any] = {self._results.status: look.format_status(run)}
                if len(run.results) != results_shown:
                    update |= self._show_new_results(run, is_first=results_shown == 0)
                    results_shown = len(run.results)
                yield update
        except UserError as error:
            yield {self._results.status: f"<p>{escape(str(error))}</p>"}

    def _show_new_results(self, run: Run, is_first: bool) -> dict[Any, Any]:
        names = list(run.results)
        update = {
            self._results.comparison: gr.update(visible=True),
            self._results.picture: gr.update(choices=names),
            self._results.files: [str(path) for path in run.results.values()],
        }
        if is_first:
            update[self._results.picture] = gr.update(choices=names, value=names[0])
            update[self._results.slider] = _get_previews(run, names[0])
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


def build_app(
    folder: Path, tasks: list[str], a: argparse.Namespace, sessions: Sessions, samples: Path | None
) -> FastAPI:
    """Return the page as a web application; arguments and errors as for Page."""
    page = Page(folder, tasks, a, sessions, samples)
    sessions.keep_present_files()  # the thumbnails of the examples
    return gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page.blocks,
        path="/",
        footer_links=[],
        show_error=False,
        allowed_paths=[file for files in page.examples.values() for file in files],
        max_file_size=_LARGEST_UPLOAD,
        ssr_mode=False,
        theme=look.make_theme(),
        css=look.CSS,
    )
