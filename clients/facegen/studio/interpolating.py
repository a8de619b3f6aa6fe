"""The tab of paths from one face to another."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from facegen.client import Interpolated, Model
from facegen.studio.calls import Photo
from facegen.studio.controls import (
    OF_PHOTO,
    OF_SEED,
    FamilyChoice,
    RequestPanel,
    SeedChoice,
    Studio,
    Updates,
    draw_first,
    photo_input,
    react,
)
from facegen.studio.requests import PATH, interpolate_request
from facegen.studio.results import keep

__all__ = ["InterpolateTab"]

_SOURCES = [("Two drawn faces", OF_SEED), ("Two photos", OF_PHOTO)]


class InterpolateTab:
    """Go from one face to another, as an animated picture."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Tab("Interpolate", id="interpolate") as self.tab, gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._source = gr.Radio(_SOURCES, value=OF_SEED, label="Between")
                with gr.Column(elem_classes=OF_SEED):
                    self._first = SeedChoice("First seed", value=7)
                    self._second = SeedChoice("Second seed", value=8)
                with gr.Row(elem_classes=OF_PHOTO):
                    self._start = photo_input(
                        "From", height=220, min_width=140, elem_id="start-photo"
                    )
                    self._end = photo_input("To", height=220, min_width=140, elem_id="end-photo")
                self.choice = FamilyChoice(lambda it: it.width_px > 0)
                self._count = gr.Slider(2, 64, 24, step=1, label="Pictures", buttons=[])
                self._frame_ms = gr.Slider(
                    20, 500, 60, step=10, label="Milliseconds a picture", buttons=[]
                )
                self._back = gr.Checkbox(True, label="There and back")
                go = gr.Button("Interpolate", variant="primary")
            with gr.Column(scale=3, min_width=300):
                self._picture = gr.Image(
                    label="From one to the other",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_classes="animation",
                    alt_text="A face that turns into another",
                )
                self._download = gr.DownloadButton("Download the animation", interactive=False)
                self._panel = RequestPanel(studio)
        self._listen(go)

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""
        return self.choice.refreshed

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer the families that draw pictures."""
        return self.choice.refresh(models)

    def _listen(self, go: gr.Button) -> None:
        inputs = [
            self._source,
            self._first.seed,
            self._second.seed,
            self._start,
            self._end,
            self.choice.family,
            self.choice.prior,
            self._count,
            self._frame_ms,
            self._back,
        ]
        outputs = [self._picture, self._download, *self._panel.outputs]
        draw_first(self.tab, self._panel, self._interpolate, inputs, outputs)
        react([go.click], self._interpolate, inputs, outputs)
        for after in (self._first.drawn, self._second.drawn):
            react(after, self._interpolate, inputs, outputs)
        self.choice.offer_priors(self._studio)

    def _interpolate(
        self,
        source: str,
        first: int,
        second: int,
        start: Photo | None,
        end: Photo | None,
        family: str,
        prior: str,
        count: int,
        frame_ms: int,
        there_and_back: bool,
    ) -> tuple[Any, ...]:
        ends: Any = (start, end) if source == OF_PHOTO else (first, second)
        if None in ends:
            raise gr.Error("Give both photos.", title="That did not work", print_exception=False)
        request = interpolate_request(
            ends,
            count=count,
            frame_ms=frame_ms,
            there_and_back=there_and_back,
            prior=prior,
            family=family,
        )
        answer: Interpolated = request.call.make(self._studio.client)
        assert answer.animation is not None, "asked for"
        kept = keep(PATH, answer.animation.data)
        return kept, gr.DownloadButton(value=kept, interactive=True), *self._panel.show(request)
