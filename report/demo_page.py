"""The demo of a model: a page in the browser that takes a recording and shows the answer of every task."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undertone.audio.read import AudioError, read_audio
from undertone.inference.format import ATTENTION, task_key
from undertone.inference.predict import Predictor
from undertone.scoring import plots
from undertone.scoring.pages import render

if TYPE_CHECKING:
    from gradio import Blocks

FONT = ("system-ui", "sans-serif")  # of this machine: nothing is fetched
LOCAL = "127.0.0.1"
HINT = "<p class='hint'>Upload a recording, or record one. It stays on this machine.</p>"


def answer(predictor: Predictor, file: str | None) -> str:
    """HTML of the answers for a file, or a hint: bars of every task, waveform, attention, a timeline of a long one."""
    if file is None:
        return HINT
    (row,) = predictor.predict([file], attention=True)
    wide, narrow = ("", "") if "error" in row else _pictures(predictor, file, row)
    tasks = [
        {"name": task.name, "entry": row[task_key(task.name)], "has_classes": task.has_classes}
        for task in predictor.tasks
        if task_key(task.name) in row
    ]
    return render(
        Path(__file__).with_name("demo.html.j2"),
        row=row,
        tasks=tasks,
        wide=wide,
        narrow=narrow,
        timeline="" if "error" in row else _timeline(predictor, file),
    )


def _pictures(predictor: Predictor, file: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """SVG of waveform, spectrogram and, where the head has one, attention: for a wide screen and for a phone."""
    try:
        samples = read_audio(file, predictor.model.sample_rate).numpy()
    except AudioError:
        return "", ""
    attention = row.get(ATTENTION)
    weights = np.array(attention["weights"]) if isinstance(attention, Mapping) else None
    given = (samples, predictor.model.sample_rate, None, weights)
    return plots.explanation_svg(*given, "wide", True), plots.explanation_svg(*given, "narrow", False)


def _timeline(predictor: Predictor, file: str) -> str:
    """The picture of the windows of a recording that has several, base64 of a PNG; "" of any other."""
    timeline = predictor.predict_long(file)
    if len(timeline) < 2:
        return ""
    buffer = io.BytesIO()
    timeline.plot().savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def make_demo(predictor: Predictor, name: str) -> Blocks:
    """The page as a Gradio app, not yet served; `name` is in its title. A ValueError says that there is no gradio."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ValueError("`undertone demo` needs gradio: pip install 'undertone[demo]'.") from error
    page: Blocks
    with gradio.Blocks(title=f"{name} · Undertone", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gradio.Markdown(f"# {_plain(name)}\n{', '.join(_plain(task.name) for task in predictor.tasks)} from speech")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                given = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="recording", buttons=[])
            with gradio.Column(scale=3, min_width=300):
                shown = gradio.HTML(HINT)
        given.change(lambda file: answer(predictor, file), given, shown, api_name="predict")
    return page


def serve(page: Blocks, host: str = LOCAL, port: int | None = None) -> str:
    """Serve the page from a thread, and return its address; the default can be reached from this machine alone.

    The default port is the first free one from 7860.
    """
    import gradio

    theme = gradio.themes.Default(primary_hue="teal", font=list(FONT), font_mono=["monospace"])
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        theme=theme,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
        run_history=False,
    )
    return str(address)


def _plain(text: str) -> str:
    """Without what Markdown or HTML would take for markup."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>#&|~$" else character for character in text)
