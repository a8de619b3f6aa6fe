"""What several tabs have: choices of families, seeds, photos, and the request shown."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.data_classes import ImageData
from gradio.events import Dependency
from PIL import UnidentifiedImageError

from facegen.client import Client, Model
from facegen.studio.calls import Photo, Request, ShownServer
from facegen.studio.sentences import tells_errors

__all__ = [
    "MOST_SEED",
    "OF_PHOTO",
    "OF_SEED",
    "FamilyChoice",
    "RequestPanel",
    "SeedChoice",
    "Studio",
    "StudioTab",
    "Updates",
    "draw_first",
    "gallery",
    "photo_input",
    "react",
]

MOST_SEED = 9999
OF_SEED, OF_PHOTO = "of-seed", "of-photo"
"""What a tab begins with; the style sheet shows the parts of the tab that have the class."""

Updates = dict[Any, Any]
"""What becomes of components of the page."""

_CODE: dict[str, Any] = {
    "wrap_lines": True,
    "show_line_numbers": False,
    "lines": 1,
    "buttons": ["copy"],
}
_KINDS = ("vae", "autoencoder", "expression", "mesh")  # the best at drawing first


@dataclass(frozen=True, slots=True)
class Studio:
    """What the tabs work with: the client, and the server as visitors name it."""

    client: Client
    server: ShownServer


class StudioTab(Protocol):
    """A tab of the page, which has a use if some family can do what it does."""

    tab: gr.Tab
    choice: "FamilyChoice"

    @property
    def refreshed(self) -> Sequence[Any]:
        """The components that depend on the models."""

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Tell what becomes of them with these models."""


def react(
    triggers: Sequence[Any] | Dependency,
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> Dependency:
    """Call the server when something is changed; of changes made meanwhile, the last counts.

    Args:
        triggers: The events that tell of changes, or the reaction after which to call.
        handler: What calls it; errors of the client are told to the visitor.
        inputs: The components whose values it gets.
        outputs: Those whose values it gives.
    """
    told = tells_errors(handler)
    called: Dependency
    if isinstance(triggers, Dependency):
        called = triggers.success(told, inputs, outputs, api_visibility="private")
    else:
        called = gr.on(
            triggers, told, inputs, outputs, trigger_mode="always_last", api_visibility="private"
        )
    return called


def draw_first(
    tab: gr.Tab,
    panel: "RequestPanel",
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Call the server when a tab is opened that shows nothing yet."""

    def draw(command: str, *values: Any) -> Any:
        return [gr.skip()] * len(outputs) if command else handler(*values)

    react([tab.select], draw, [panel.command, *inputs], outputs)


def gallery(style: str, *, columns: int) -> gr.Gallery:
    """Make a place for pictures that are looked at and downloaded; `style` is the sheet's class."""
    return gr.Gallery(
        show_label=False,
        columns=columns,
        object_fit="contain",
        height="auto",
        buttons=["download", "fullscreen"],
        interactive=False,
        elem_classes=style,
    )


def photo_input(label: str, **options: Any) -> gr.Image:
    """Make a place for a photo, from a file or the camera; handlers get a `Photo`, or None."""
    image = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=True),
        buttons=[],
        **options,
    )
    preprocess = image.preprocess

    def photo(payload: ImageData | None) -> Photo | None:
        if payload is None:
            return None
        try:
            path = preprocess(payload)
        except UnidentifiedImageError:
            path = payload.path  # the server's words for it are better
        name = payload.orig_name or Path(str(path)).name
        return Photo(Path(name).name, Path(str(path)).read_bytes())

    image.preprocess = photo  # type: ignore[method-assign, assignment]  # a subclass would write a .pyi file beside this one
    return image


class FamilyChoice:
    """A choice among the families that can do what a tab does."""

    def __init__(self, able: Callable[[Model], bool], *, has_prior: bool = True) -> None:
        self._able = able
        self.family = gr.Dropdown([], label="Model", interactive=True)
        self.prior = gr.Dropdown([], label="Prior", interactive=True, visible=has_prior)

    def able(self, models: Sequence[Model]) -> list[Model]:
        """Give those families, the best at drawing first."""
        chosen = [model for model in models if self._able(model)]
        return sorted(chosen, key=lambda it: (_KINDS.index(it.kind), it.family))

    @property
    def refreshed(self) -> list[Any]:
        """Its components, which depend on the models."""
        return [self.family, self.prior]

    def refresh(self, models: Sequence[Model]) -> Updates:
        """Offer them."""
        able = self.able(models)
        if not able:
            return {}
        choices = [(_described(model), model.family) for model in able]
        return {
            self.family: gr.Dropdown(choices, value=able[0].family),
            self.prior: _priors(able[0]),
        }

    def offer_priors(self, studio: Studio) -> Dependency:
        """Let the priors on offer be those of the family that is chosen."""
        return react(
            [self.family.input],
            lambda family: _priors(studio.client.model(family)),
            [self.family],
            [self.prior],
        )


class SeedChoice:
    """A seed, and a button for another one."""

    def __init__(self, label: str = "Seed", *, value: int = 7) -> None:
        with gr.Group():
            self.seed = gr.Slider(
                0,
                MOST_SEED,
                value,
                step=1,
                label=label,
                info="The same seed, the same face",
                buttons=[],
            )
            self.another = gr.Button(f"New {label.lower()}", size="sm")
        self.drawn = self.another.click(
            lambda: random.randint(0, MOST_SEED),
            None,
            self.seed,
            show_progress="hidden",
            api_visibility="private",
        )


class RequestPanel:
    """The request as a command and as a program, to copy."""

    def __init__(self, studio: Studio) -> None:
        self._server = studio.server
        with gr.Accordion("Do this from a shell or in Python", open=False):
            self.command = gr.Code(
                label="Command",
                language="shell",
                interactive=False,
                elem_classes="command",
                **_CODE,
            )
            self.program = gr.Code(
                label="Python",
                language="python",
                interactive=False,
                elem_classes="program",
                **_CODE,
            )

    @property
    def outputs(self) -> list[Any]:
        """Its components."""
        return [self.command, self.program]

    def show(self, request: Request | None) -> tuple[str, str]:
        """Give their values."""
        if request is None:
            return "", ""
        return request.command_line(self._server), request.python(self._server)


def _priors(model: Model) -> gr.Dropdown:
    return gr.Dropdown(list(model.priors), value=model.priors[0])


def _described(model: Model) -> str:
    if model.kind == "mesh":
        return f"{model.family} · {model.vertex_count} vertices"
    color = "grey" if model.channel_count == 1 else "colour"
    return f"{model.family} · {color}, {model.width_px} × {model.height_px}"
