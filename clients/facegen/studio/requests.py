"""What each tab asks for: the call, and the command and the lines that write the same files."""

from collections.abc import Mapping, Sequence
from typing import Any

from facegen.client import Animation, DrawnFace, ExpressionTarget, FaceCrop
from facegen.studio.calls import Call, Photo, Request, literal

__all__ = [
    "EDITED",
    "MESH_FORMATS",
    "PATH",
    "draw_request",
    "edit_request",
    "generate_request",
    "interpolate_request",
    "mesh_request",
    "transfer_request",
]

MESH_FORMATS = {"glb": "model/gltf-binary", "obj": "model/obj", "ply": "model/ply"}
"""The MIME type of each format of meshes, which is also the suffix of its files."""

EDITED = "edited"
"""What the name of an edited face's file begins with, or ends with after its photo's."""

PATH = "path.webp"
"""The file of an animated path."""


def transfer_request(
    photo: Photo, expressions: Sequence[str], *, strength: float, family: str
) -> Request:
    """Ask for a photo with each of some expressions."""
    targets = [ExpressionTarget(name, strength) for name in expressions]
    words = ["transfer", photo.argument, *_words({"family": family})]
    for name in expressions:
        words += ["--expression", f"{name}:{strength:g}"]
    begin, end = literal(f"{photo.stem}-"), literal(photo.suffix)
    return Request(
        Call("transfer", [[photo], targets], _given(family=family, mime_type=photo.mime_type)),
        [*words, "--overwrite"],
        [
            "for made in answer.photos[0].images:",
            f"    made.image.save({begin} + made.expression + {end})",
        ],
    )


def generate_request(
    count: int, *, seed: int, temperature: float, prior: str, family: str
) -> Request:
    """Ask for faces of a seed."""
    options = _given(family=family, seed=seed, temperature=temperature, prior=prior)
    return Request(
        Call("generate", [count], options),
        ["generate", "--count", str(count), *_words(options)],
        ["for face in answer.faces:", '    face.image.save(f"{face.index:08}.png")'],
    )


def draw_request(seed: int, *, prior: str, family: str) -> Request:
    """Ask for face 0 of a seed, which other requests begin with."""
    options = _given(family=family, seed=seed, prior=prior)
    return Request(
        Call("generate", [1], options),
        ["generate", "--count", "1", *_words(options)],
        ['answer.faces[0].image.save("00000000.png")'],
    )


def edit_request(
    face: Photo | int, moves: Mapping[str, float], *, prior: str, family: str
) -> Request:
    """Ask for a photo, or face 0 of a seed, with more of this and less of that."""
    words = ["edit"]
    for name, strength in moves.items():
        words += ["--more" if strength > 0 else "--less", f"{name}:{abs(strength):g}"]
    options = _given(family=family)
    if isinstance(face, Photo):
        words += [face.argument, "--face", *_words(options)]
        options |= {"crop": FaceCrop(), "mime_type": face.mime_type}
        file = f"{face.stem}-{EDITED}{face.suffix}"
        source: Any = face
    else:
        words += _words({"seed": face, **_given(prior=prior), **options})
        options["mime_type"] = "image/png"
        file = f"seed-{face}-{EDITED}.png"
        source = _drawn(face, prior)
    return Request(
        Call("edit", [[source], dict(moves)], options),
        words,
        [f"answer.faces[0].images[0].save({literal(file)})"],
    )


def interpolate_request(
    ends: tuple[Photo, Photo] | tuple[int, int],
    *,
    count: int,
    frame_ms: int,
    there_and_back: bool,
    prior: str,
    family: str,
) -> Request:
    """Ask for the path between two photos or two seeds as an animated picture."""
    options = _given(count=count, family=family)
    words = ["interpolate", *_words(options), "--frame-ms", str(frame_ms)]
    options |= {"animation": Animation(frame_ms, there_and_back), "mime_type": "image/webp"}
    words += ["--there-and-back" if there_and_back else "--one-way", "--animation", PATH]
    photos = [end for end in ends if isinstance(end, Photo)]
    seeds = [end for end in ends if not isinstance(end, Photo)]
    if photos:
        options["crop"] = FaceCrop()
        words += ["--face", *(photo.argument for photo in photos)]
    else:
        words += ["--seeds", ",".join(map(str, seeds)), *_words(_given(prior=prior))]
    faces = [*photos, *(_drawn(seed, prior) for seed in seeds)]
    return Request(Call("interpolate", faces, options), words, [f'answer.animation.save("{PATH}")'])


def mesh_request(
    seed: int, *, temperature: float, prior: str, family: str, file_format: str
) -> Request:
    """Ask for mesh 0 of a seed."""
    options = _given(family=family, seed=seed, temperature=temperature, prior=prior)
    return Request(
        Call("generate_meshes", [1], {**options, "mime_type": MESH_FORMATS[file_format]}),
        ["mesh", "generate", "--count", "1", *_words({**options, "format": file_format})],
        [f'answer.meshes[0].mesh.save("00000000.{file_format}")'],
    )


def _given(**options: Any) -> dict[str, Any]:
    """Leave out what is not chosen, for the models are not known yet: the server then chooses."""
    return {name: value for name, value in options.items() if value not in ("", None)}


def _drawn(seed: int, prior: str) -> DrawnFace:
    return DrawnFace(seed, **_given(prior=prior))


def _words(options: Mapping[str, Any]) -> list[str]:
    """Give options of a command by their names."""
    words = []
    for name, value in options.items():
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return words
