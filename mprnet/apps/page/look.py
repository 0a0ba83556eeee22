"""The look of the page."""

from html import escape

import gradio as gr

from mprnet.apps.page.restoring import Run

CSS = """
.gradio-container { width: 100% !important; max-width: 1200px !important; margin: 0 auto !important; }
#status progress { appearance: none; width: 100%; height: 0.6em; border: none; }
#status progress, #status progress::-webkit-progress-bar { background: var(--border-color-primary); }
#status progress::-webkit-progress-value { background: var(--color-accent); }
#status progress::-moz-progress-bar { background: var(--color-accent); }
#status { min-height: 5em; }
#status ul { margin: 0.3em 0; padding-left: 1.2em; list-style: disc; }
#status p, #status li { overflow-wrap: anywhere; }
#examples .label svg { display: none; }
#results td:has(button) { display: none; }
"""


def make_theme() -> gr.themes.Base:
    """Return Gradio's theme, with the system's fonts (nothing is downloaded) and more contrast in small text."""
    base = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return base.set(block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_300")


def format_status(run: Run) -> str:
    """Return the progress, the failures and the notes of a run, as HTML."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in [*run.failures, *run.notes])
    done = len(run.results) + len(run.failures)
    if run.current and not run.stopped.is_set():
        line = f"{escape(run.current)}: {done + 1} of {run.total}"
        if run.ahead:
            line += f", waits at position {run.ahead + 1}: {_count_pictures(run.ahead)} of other visitors first"
        fraction = (done + run.fraction) / run.total
        head = f'<p>{line}</p><progress value="{fraction:.3f}"></progress>'
    else:
        end = ", cancelled" if done < run.total else ""
        head = f"<p>{len(run.results)} of {run.total} pictures restored{end}.</p>"
    return f"{head}<ul>{sentences}</ul>" if sentences else head


def _count_pictures(number: int) -> str:
    return f"{number} picture{'s' if number > 1 else ''}"
