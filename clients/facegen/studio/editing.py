"""The tab of edited faces: more of this, less of that."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from facegen.client import Direction, Edited, Generated, Model
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
    gallery,
    photo_input,
    react,
)
from facegen.studio.requests import EDITED, draw_request, edit_request
from facegen.studio.results import keep

__all__ = ["EditTab"]

_SOURCES = [("A drawn face", OF_SEED), ("A photo", OF_PHOTO)]
_SHOWN_COUNT = 10
_MOST = {True: 2, False: 3}  # of attributes, whose unit is from without to with; of components


class EditTab:
    """Move a face along the directions of a family."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Tab("Edit", id="edit") as self.tab, gr.Row(elem_classes="editing"):
            with gr.Column(scale=2, min_width=300):
                self._source = gr.Radio(_SOURCES, value=OF_SEED, label="Begin with")
                with gr.Column(elem_classes=OF_SEED):
                    self._seed = SeedChoice()
                with gr.Column(elem_classes=OF_PHOTO):
                    self._photo = photo_input("Photo", height=280, elem_id="edit-photo")
                self.choice = FamilyChoice(lambda it: bool(it.directions))
                self._sliders = gr.Column()
            with gr.Column(scale=3, min_width=300):
                self._gallery = gallery("pair", columns=2)
                self._download = gr.DownloadButton("Download the result", interactive=False)
                self._panel = RequestPanel(studio)
        self._listen()

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""
        return self.choice.refreshed

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer the families that have directions."""
        return self.choice.refresh(models)

    def _listen(self) -> None:
        draw_first(self.tab, self._panel, self._begin, self._face_inputs, self._outputs)
        offered = self.choice.offer_priors(self._studio)
        react(offered, self._begin, self._face_inputs, self._outputs)
        with self._sliders:
            gr.render(inputs=[self.choice.family], show_progress="hidden")(self._draw_sliders)

    def _draw_sliders(self, family: str | None) -> None:
        """Make a slider for each direction of the family, those that change most first."""
        if not family:
            return
        directions = self._studio.client.model(family).directions
        ordered = sorted(directions, key=lambda it: -(it.effect or 0))
        with gr.Group(elem_classes="directions"):
            sliders = {it.name: _slider(it) for it in ordered[:_SHOWN_COUNT]}
        if ordered[_SHOWN_COUNT:]:
            with gr.Accordion("More", open=False), gr.Group(elem_classes="directions"):
                sliders |= {it.name: _slider(it) for it in ordered[_SHOWN_COUNT:]}
        reset = gr.Button("Reset", size="sm")
        values = list(sliders.values())
        inputs = [*self._face_inputs, *values]
        outputs = self._outputs

        def edit(
            source: str, seed: int, photo: Photo | None, prior: str, family: str, *strengths: float
        ) -> tuple[Any, ...]:
            moves = {name: value for name, value in zip(sliders, strengths, strict=True) if value}
            return self._edit(photo if source == OF_PHOTO else seed, moves, prior, family)

        changed = [
            self._source.input,
            self._seed.seed.change,
            self._photo.change,
            self.choice.prior.change,
            *(it.input for it in values),
        ]
        react(changed, edit, inputs, outputs)
        emptied = react([reset.click], lambda: [0] * len(values), [], values)
        react(emptied, edit, inputs, outputs)

    @property
    def _face_inputs(self) -> list[Any]:
        choice = self.choice
        return [self._source, self._seed.seed, self._photo, choice.prior, choice.family]

    @property
    def _outputs(self) -> list[Any]:
        return [self._gallery, self._download, *self._panel.outputs]

    def _begin(
        self, source: str, seed: int, photo: Photo | None, prior: str, family: str
    ) -> tuple[Any, ...]:
        return self._edit(photo if source == OF_PHOTO else seed, {}, prior, family)

    def _edit(
        self, face: Photo | int | None, moves: Mapping[str, float], prior: str, family: str
    ) -> tuple[Any, ...]:
        if face is None:
            return [], gr.DownloadButton(value=None, interactive=False), *self._panel.show(None)
        client = self._studio.client
        if isinstance(face, Photo):
            name, before, request = f"{face.stem}-{EDITED}{face.suffix}", face.data, None
        else:
            name, request = (
                f"seed-{face}-{EDITED}.png",
                draw_request(face, prior=prior, family=family),
            )
            drawn: Generated = request.call.make(client)
            before = drawn.faces[0].image.data
        after = before
        if moves:
            request = edit_request(face, moves, prior=prior, family=family)
            edited: Edited = request.call.make(client)
            after = edited.faces[0].images[0].data
        kept = keep(name, after)
        return (
            [(keep(f"before-{name}", before), "before"), (kept, "after")],
            gr.DownloadButton(value=kept, interactive=True),
            *self._panel.show(request),
        )


def _slider(direction: Direction) -> gr.Slider:
    most = _MOST[direction.effect is not None]
    return gr.Slider(
        -most,
        most,
        0,
        step=0.1,
        label=direction.name.replace("_", " "),
        buttons=[],
        key=direction.name,
    )
