"""The page: its tabs, and what it says of the server."""

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr

from facegen.client import ClientError
from facegen.studio.controls import Studio, StudioTab, Updates
from facegen.studio.editing import EditTab
from facegen.studio.generating import GenerateTab
from facegen.studio.interpolating import InterpolateTab
from facegen.studio.meshes import MeshTab
from facegen.studio.selfie import SelfieTab
from facegen.studio.sentences import sentence

__all__ = ["build_page"]

_MASTHEAD = """<h1>facegen <span>studio</span></h1>
<p>Faces that change, and faces that no camera saw. All of it is made by your own server.</p>"""
_SWEEP_S = 60
_RETRY_S = 3.0
_CALLS_AT_ONCE = 8  # of one kind, of all visitors
_MOST_WAITING = 256


def build_page(studio: Studio, *, keep_s: int) -> gr.Blocks:
    """Make the page, which asks for the models whenever it is opened.

    Args:
        studio: What it works with.
        keep_s: How long files of visitors are kept.
    """
    page: gr.Blocks
    with gr.Blocks(
        title="facegen studio",
        analytics_enabled=False,
        delete_cache=(min(_SWEEP_S, keep_s), keep_s),
    ) as page:
        gr.HTML(_MASTHEAD, elem_id="masthead")
        status = gr.HTML(elem_id="status", visible=False)
        again = gr.Timer(_RETRY_S, active=False)
        with gr.Tabs() as tabs:
            made: list[StudioTab] = [
                SelfieTab(studio),
                GenerateTab(studio),
                EditTab(studio),
                InterpolateTab(studio),
                MeshTab(studio),
            ]

        absent = gr.HTML(_hiding([]), padding=False)

        def refresh() -> Updates:
            try:
                models = studio.client.models()
            except ClientError as error:
                return {status: _alarm(sentence(error)), again: gr.Timer(active=True)}
            if not models:
                return {status: _alarm("The server has no models."), again: gr.Timer(active=True)}
            able = [it.tab.id for it in made if it.choice.able(models)]
            updates: Updates = {
                status: gr.HTML(visible=False),
                again: gr.Timer(active=False),
                absent: _hiding([it.tab.id for it in made if it.tab.id not in able]),
            }
            for tab in made:
                updates |= tab.refresh(models)
            if able and made[0].tab.id not in able:
                updates[tabs] = gr.Tabs(selected=able[0])
            return updates

        # Until then nothing listens to the page's buttons: see the style sheet.
        page.load(js="() => document.body.classList.add('ready')", api_visibility="private")
        outputs = [status, again, absent, tabs, *(it for tab in made for it in tab.refreshed)]
        gr.on(
            [page.load, again.tick],
            refresh,
            None,
            outputs,
            show_progress="hidden",
            api_visibility="private",
        )
    page.queue(max_size=_MOST_WAITING, default_concurrency_limit=_CALLS_AT_ONCE)
    return page


def _hiding(tabs: Sequence[Any]) -> str:
    """Hide tabs that no family has a use for: Gradio does not hide one that was there."""
    rules = "".join(f'[data-tab-id="{tab}"] {{ display: none !important; }}' for tab in tabs)
    return f"<style>{rules}</style>"


def _alarm(text: str) -> gr.HTML:
    told = f"{html.escape(text)} This page goes on by itself once there is."
    return gr.HTML(f'<p role="alert">{told}</p>', visible=True)
