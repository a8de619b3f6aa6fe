"""The tab of selfies: a photo, and the same with every expression."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import gradio as gr

from facegen.client import Model, Transferred
from facegen.studio.calls import Photo
from facegen.studio.controls import (
    FamilyChoice,
    RequestPanel,
    Studio,
    Updates,
    gallery,
    photo_input,
    react,
)
from facegen.studio.requests import transfer_request
from facegen.studio.results import keep, keep_archive

__all__ = ["SelfieTab"]

_EXAMPLE = "astronaut.jpg"
_MOST_STRENGTH = 1.5


class SelfieTab:
    """Upload or take a photo, and see it with every expression."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Tab("Selfie", id="selfie") as self.tab, gr.Row():
            with gr.Column(scale=2, min_width=300):
                self._photo = photo_input("Your photo", height=340, elem_id="selfie-photo")
                example = gr.Button("Try the example photo", size="md")
                self._strength = gr.Slider(
                    0,
                    _MOST_STRENGTH,
                    1,
                    step=0.05,
                    label="Strength",
                    info="0 leaves the photo as it is; above 1 is more than natural",
                    buttons=[],
                )
                with gr.Accordion("Which expressions", open=False):
                    self._expressions = gr.CheckboxGroup([], label="Expressions")
                    self.choice = FamilyChoice(lambda it: bool(it.expressions), has_prior=False)
            with gr.Column(scale=3, min_width=300):
                self._gallery = gallery("photos", columns=3)
                self._download = gr.DownloadButton("Download all", interactive=False)
                self._panel = RequestPanel(studio)
        self._listen(example)

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""
        return [*self.choice.refreshed, self._expressions]

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer the families that give expressions, and those of the first."""
        able = self.choice.able(models)
        expressions = {self._expressions: _offered(able[0])} if able else {}
        return self.choice.refresh(models) | expressions

    def _listen(self, example: gr.Button) -> None:
        inputs = [self._photo, self._expressions, self._strength, self.choice.family]
        outputs = [self._gallery, self._download, *self._panel.outputs]
        example.click(_example, None, self._photo, api_visibility="private")
        react(
            [self._photo.change, self._expressions.change, self._strength.input],
            self._transfer,
            inputs,
            outputs,
        )
        offered = react(
            [self.choice.family.input],
            lambda family: _offered(self._studio.client.model(family)),
            [self.choice.family],
            [self._expressions],
        )
        react(offered, self._transfer, inputs, outputs)

    def _transfer(
        self, photo: Photo | None, expressions: Sequence[str], strength: float, family: str
    ) -> tuple[Any, ...]:
        if photo is None or not expressions:
            return [], gr.DownloadButton(value=None, interactive=False), *self._panel.show(None)
        request = transfer_request(photo, expressions, strength=strength, family=family)
        answer: Transferred = request.call.make(self._studio.client)
        pictures = {
            f"{photo.stem}-{made.expression}{photo.suffix}": made
            for made in answer.photos[0].images
        }
        gallery = [
            (keep(name, made.image.data), made.expression) for name, made in pictures.items()
        ]
        archive = keep_archive(
            f"{photo.stem}-expressions.zip",
            {name: made.image.data for name, made in pictures.items()},
        )
        return (
            gallery,
            gr.DownloadButton(value=archive, interactive=True),
            *self._panel.show(request),
        )


def _offered(model: Model) -> gr.CheckboxGroup:
    poor = [(f"{name} (experimental)", name) for name in model.experimental_expressions]
    chosen = list(model.expressions)
    return gr.CheckboxGroup([*((name, name) for name in chosen), *poor], value=chosen)


def _example() -> str:
    data = files("facegen.studio").joinpath("assets", _EXAMPLE).read_bytes()
    return keep(_EXAMPLE, data)
