"""How the page looks: a theme of the fonts that are there, a style sheet, a script."""

from importlib.resources import files

import gradio as gr

__all__ = ["head", "style", "theme"]

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Cantarell", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Give the theme; no font is loaded from anywhere."""
    base = gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=_SANS,
        font_mono=_MONO,
    )
    # Grey on grey is hard to read: labels and hints are darker than the theme's.
    return base.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
    )


def style() -> str:
    """Give the style sheet."""
    return _asset("style.css")


def head() -> str:
    """Give what stands in the page's head."""
    return f"<script>{_asset('page.js')}</script>"


def _asset(name: str) -> str:
    return files("facegen.studio").joinpath("assets", name).read_text(encoding="utf-8")
