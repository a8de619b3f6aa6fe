"""The tab of drawn faces."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from facegen.client import Generated, Model
from facegen.studio.controls import (
    FamilyChoice,
    RequestPanel,
    SeedChoice,
    Studio,
    Updates,
    draw_first,
    gallery,
    react,
)
from facegen.studio.requests import generate_request
from facegen.studio.results import keep, keep_archive

__all__ = ["GenerateTab"]

_MOST_COUNT = 64


class GenerateTab:
    """Draw faces that no camera saw."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Tab("Generate", id="generate") as self.tab, gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.choice = FamilyChoice(lambda it: it.width_px > 0)
                self._seed = SeedChoice()
                self._temperature = gr.Slider(
                    0,
                    2,
                    1,
                    step=0.05,
                    label="Temperature",
                    info="Below 1 plainer, above 1 odder faces",
                    buttons=[],
                )
                self._count = gr.Slider(1, _MOST_COUNT, 12, step=1, label="Count", buttons=[])
                draw = gr.Button("Generate", variant="primary")
            with gr.Column(scale=3, min_width=300):
                self._gallery = gallery("faces", columns=4)
                self._download = gr.DownloadButton("Download all", interactive=False)
                self._panel = RequestPanel(studio)
        self._listen(draw)

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""
        return self.choice.refreshed

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer the families that draw pictures."""
        return self.choice.refresh(models)

    def _listen(self, draw: gr.Button) -> None:
        inputs: list[Any] = [
            self.choice.family,
            self.choice.prior,
            self._seed.seed,
            self._temperature,
            self._count,
        ]
        outputs = [self._gallery, self._download, *self._panel.outputs]
        changed = [draw.click, *(it.input for it in inputs[1:])]
        react(changed, self._generate, inputs, outputs)
        draw_first(self.tab, self._panel, self._generate, inputs, outputs)
        react(self._seed.drawn, self._generate, inputs, outputs)
        react(self.choice.offer_priors(self._studio), self._generate, inputs, outputs)

    def _generate(
        self, family: str, prior: str, seed: int, temperature: float, count: int
    ) -> tuple[Any, ...]:
        request = generate_request(
            count, seed=seed, temperature=temperature, prior=prior, family=family
        )
        answer: Generated = request.call.make(self._studio.client)
        pictures = {f"{face.index:08}.png": face.image.data for face in answer.faces}
        archive = keep_archive(f"{family}-seed-{seed}.zip", pictures)
        return (
            [keep(name, data) for name, data in pictures.items()],
            gr.DownloadButton(value=archive, interactive=True),
            *self._panel.show(request),
        )
