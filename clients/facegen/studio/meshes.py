"""The tab of meshes: heads that turn."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from facegen.client import GeneratedMeshes, Model
from facegen.studio.controls import (
    FamilyChoice,
    RequestPanel,
    SeedChoice,
    Studio,
    Updates,
    draw_first,
    react,
)
from facegen.studio.requests import MESH_FORMATS, mesh_request
from facegen.studio.results import keep

__all__ = ["MeshTab"]

_SHOWN = "glb"


class MeshTab:
    """Draw heads, and turn them."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Tab("Mesh", id="mesh") as self.tab, gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.choice = FamilyChoice(lambda it: it.vertex_count > 0)
                self._seed = SeedChoice(value=11)
                self._temperature = gr.Slider(
                    0,
                    2,
                    1,
                    step=0.05,
                    label="Temperature",
                    info="Below 1 plainer, above 1 odder heads",
                    buttons=[],
                )
                self._format = gr.Radio(
                    [(name.upper(), name) for name in MESH_FORMATS],
                    value=_SHOWN,
                    label="Format of the download",
                )
                draw = gr.Button("Draw a head", variant="primary")
            with gr.Column(scale=3, min_width=300):
                self._model = gr.Model3D(
                    label="Turn it with the mouse or a finger",
                    height=480,
                    interactive=False,
                    elem_classes="clay",
                    camera_position=(90, 80, None),
                    clear_color=(0.13, 0.15, 0.17, 1.0),
                )
                self._download = gr.DownloadButton("Download the mesh", interactive=False)
                self._panel = RequestPanel(studio)
        self._listen(draw)

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""
        return self.choice.refreshed

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer the families of meshes."""
        return self.choice.refresh(models)

    def _listen(self, draw: gr.Button) -> None:
        inputs: list[Any] = [
            self.choice.family,
            self.choice.prior,
            self._seed.seed,
            self._temperature,
            self._format,
        ]
        outputs = [self._model, self._download, *self._panel.outputs]
        react([draw.click, *(it.input for it in inputs[1:])], self._draw, inputs, outputs)
        draw_first(self.tab, self._panel, self._draw, inputs, outputs)
        react(self._seed.drawn, self._draw, inputs, outputs)
        react(self.choice.offer_priors(self._studio), self._draw, inputs, outputs)

    def _draw(
        self, family: str, prior: str, seed: int, temperature: float, file_format: str
    ) -> tuple[Any, ...]:
        files = {}
        for each in dict.fromkeys((_SHOWN, file_format)):
            request = mesh_request(
                seed, temperature=temperature, prior=prior, family=family, file_format=each
            )
            answer: GeneratedMeshes = request.call.make(self._studio.client)
            files[each] = keep(f"{family}-seed-{seed}.{each}", answer.meshes[0].mesh.data)
        return (
            files[_SHOWN],
            gr.DownloadButton(value=files[file_format], interactive=True),
            *self._panel.show(request),
        )
