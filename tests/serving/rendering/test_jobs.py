"""What jobs make: rows, facts, faults; checked in what is written."""

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facegen.serving.errors import InputError
from facegen.serving.faces.noise import latent_noise
from facegen.serving.imaging.origin import NAMESPACE
from tests.serving.family_graphs import EXPRESSION_FAMILY, LATENT_SIZE

RenderSet = Callable[..., dict[str, Any]]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def level(picture: Path | bytes) -> int:
    with Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        return int(np.asarray(image)[0, 0])


def drawn_level(seed: int, index: int, temperature: float = 1.0) -> int:
    noise, _ = latent_noise(seed, index, count=1, latent_size=LATENT_SIZE)
    return int(np.clip(np.rint(100 + 10 * temperature * noise[0, 0]), 0, 255))


def test_a_picture_is_that_of_its_seed_and_index(render_set: RenderSet, tmp_path: Path) -> None:
    out = tmp_path / "out"

    manifest = render_set(out, count=5, seed=9, first_index=2**40, temperature=2.0, shard_size=2)

    metadata = [line for file in sorted(out.glob("*/metadata.jsonl")) for line in lines(file)]
    assert [line["index"] for line in metadata] == [2**40 + place for place in range(5)]
    assert {line["seed"] for line in metadata} == {9}
    names = sorted(path.name for path in out.rglob("*.png"))
    assert names == [f"{2**40 + place}.png" for place in range(5)]
    for path in out.rglob("*.png"):
        assert level(path) == drawn_level(9, int(path.stem), 2.0)
        assert f'facegen:index="{path.stem}"'.encode() in path.read_bytes()
        assert NAMESPACE.encode() in path.read_bytes()
    assert manifest["counts"] == {
        "shards": 3,
        "items": 5,
        "rows": 5,
        "rejected": 0,
        "errors": 0,
        "bytes": sum(path.stat().st_size for path in out.rglob("shard-*/*")),
    }
    assert manifest["plan"]["job"]["prior"] == "normal"
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        *(f"shard-{number:06}" for number in range(3)),
    ]


@pytest.mark.parametrize("file_format", ["png", "webdataset", "parquet"])
def test_where_leaves_out_the_same_rows_of_every_container(
    render_set: RenderSet, tmp_path: Path, file_format: str
) -> None:
    out = tmp_path / "out"

    manifest = render_set(
        out, count=10, shard_size=4, format=file_format, where="index % 3 == 1 and index < 8"
    )

    assert manifest["counts"]["rows"] == 3
    assert manifest["counts"]["rejected"] == 7
    assert [shard["row_count"] for shard in manifest["shards"]] == [1, 2, 0]
    assert not manifest["shards"][2]["files"]
    assert len([name for name in out.iterdir() if name.name.startswith("shard")]) == 2


def test_scores_tell_where_a_face_is_seen(render_set: RenderSet, tmp_path: Path) -> None:
    render_set(tmp_path / "out", count=2, scores=True)

    (file,) = tmp_path.glob("out/*/metadata.jsonl")
    assert [line["face_score"] for line in lines(file)] == [None, None]


def test_where_asks_for_the_scores_that_it_needs(render_set: RenderSet, tmp_path: Path) -> None:
    manifest = render_set(tmp_path / "out", count=3, where="face_score > 0")

    assert manifest["counts"]["rows"] == 0


def test_an_interpolation_goes_from_face_to_face(render_set: RenderSet, tmp_path: Path) -> None:
    render_set(
        tmp_path / "out", kind="interpolate", count=9, frames=4, linear=True, seed=3, shard_size=5
    )

    metadata = [
        line for file in sorted(tmp_path.glob("out/*/metadata.jsonl")) for line in lines(file)
    ]
    assert [line["place"] for line in metadata] == [0, 0.25, 0.5, 0.75, 0, 0.25, 0.5, 0.75, 0]
    assert [line["from_index"] for line in metadata] == [0] * 4 + [1] * 4 + [2]
    assert [line["to_index"] for line in metadata] == [1] * 4 + [2] * 4 + [3]
    ends = latent_noise(3, 0, count=3, latent_size=LATENT_SIZE)[0][:, 0]
    for line, path in zip(metadata, sorted(tmp_path.rglob("*.png")), strict=True):
        t = line["place"]
        x = (1 - t) * ends[line["from_index"]] + t * ends[line["to_index"] % 3]
        if line["to_index"] < 3:
            assert abs(level(path) - (100 + 10 * x)) <= 1
        assert b"facegen:index" not in path.read_bytes()


def test_reconstructions_tell_their_source_and_how_near_they_are(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path
) -> None:
    manifest = render_set(
        tmp_path / "out",
        kind="reconstruct",
        input=str(hand_photos),
        format="webdataset",
        latents=True,
        shard_size=4,
    )

    assert manifest["counts"]["rows"] == 8
    assert manifest["counts"]["errors"] == 1
    assert lines(tmp_path / "out" / "errors.jsonl") == [
        {
            "index": 0,
            "source": "broken.jpg",
            "reason": "PictureError",
            "message": "is not a picture (PNG, JPEG, WEBP, BMP), or is truncated in its header",
        }
    ]
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == [f"000000001-photo_0.{it}" for it in ("png", "json", "latent.npy")]
        member = tar.extractfile("000000001-photo_0.json")
        assert member is not None
        facts = json.load(member)
        assert set(facts) == {"index", "source", "psnr_db"}
        assert facts["source"] == "photo 0.png"
        latent = tar.extractfile("000000001-photo_0.latent.npy")
        assert latent is not None
        assert np.load(BytesIO(latent.read())).shape == (LATENT_SIZE,)


def test_transfers_make_every_expression_of_every_photo(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path
) -> None:
    manifest = render_set(
        tmp_path / "out",
        kind="transfer",
        family=EXPRESSION_FAMILY,
        input=str(hand_photos),
        expressions=("happiness, sadness", "happiness"),
        cropped=True,
        shard_size=3,
    )

    assert manifest["counts"]["rows"] == 16
    assert manifest["counts"]["errors"] == 1
    metadata = [
        line for file in sorted((tmp_path / "out").glob("*/metadata.jsonl")) for line in lines(file)
    ]
    assert metadata[0]["file_name"] == "000000001-photo_0-happiness.jpg"
    assert {line["expression"] for line in metadata} == {"happiness", "sadness"}
    assert {(line["face_count"], line["face_score"]) for line in metadata} == {(1, None)}


def test_all_expressions_are_those_that_are_not_experimental(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path
) -> None:
    render_set(
        tmp_path / "out",
        kind="transfer",
        family="",
        input=str(hand_photos),
        cropped=True,
        crops=True,
        where="index == 1",
    )

    (file,) = tmp_path.glob("out/*/metadata.jsonl")
    made = lines(file)
    assert {line["expression"] for line in made} == {
        *("neutral", "happiness", "surprise", "sadness", "anger")
    }
    assert made[0]["file_name"] == "000000001-photo_0-face0-neutral.png"


def test_a_photo_without_a_face_is_recorded_with_what_to_do(
    render_set: RenderSet, tmp_path: Path, hand_photos: Path
) -> None:
    manifest = render_set(
        tmp_path / "out", kind="transfer", family=EXPRESSION_FAMILY, input=str(hand_photos)
    )

    assert manifest["counts"]["errors"] == 9
    told = lines(tmp_path / "out" / "errors.jsonl")
    assert told[1]["reason"] == "NoFaceError"
    assert told[1]["message"].endswith("or where one face fills the photo, --cropped")


def test_meshes_are_drawn_and_reconstructed(render_set: RenderSet, tmp_path: Path) -> None:
    render_set(tmp_path / "drawn", family="hand-mesh", count=3, format="obj")
    manifest = render_set(
        tmp_path / "made",
        kind="reconstruct",
        family="hand-mesh",
        input=str(tmp_path / "drawn" / "shard-000000"),
        format="parquet",
    )

    from pyarrow import parquet

    assert manifest["counts"]["rows"] == 3
    table = parquet.read_table(tmp_path / "made" / "shard-000000.parquet")
    assert table.column_names == ["key", "index", "mesh", "source", "error_mm", "latent"]
    assert max(table["error_mm"].to_pylist()) < 1e-3
    assert table["mesh"][0].as_py().startswith(b"ply")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"count": 1, "prior": "smiling"}, 'prior: "smiling" is none of this family\'s: normal'),
        ({"count": 1, "expression": "anger"}, 'expression: "anger" is none of this family\'s'),
        ({"count": 1, "family": "nobody"}, 'family: "nobody" is not in'),
        ({"count": 2, "first_index": 2**64 - 1}, "first_index: brings the last index to 1844674"),
        ({"count": 1, "format": "ply"}, 'format: "ply" is no format of pictures'),
        ({"count": 1, "format": "png", "coding": "jpeg"}, 'coding: is "jpeg" where format'),
        ({"count": 1, "family": "hand-mesh", "scores": True}, "scores: are of pictures"),
        ({"count": 1, "family": "hand-mesh", "format": "png"}, "is no format of meshes"),
        ({"kind": "reconstruct", "input": "/none"}, "input: /none is no folder"),
        ({"kind": "reconstruct", "input": "nowhere://a"}, "input: 'nowhere://a' cannot be reached"),
        ({"kind": "transfer", "input": "docs/pictures"}, 'family: "hand-vae" gives no expressions'),
        (
            {"kind": "transfer", "family": EXPRESSION_FAMILY, "input": "docs/pictures"}
            | {"expressions": ("joy",)},
            'expressions: "joy" is none of this family\'s',
        ),
        (
            {"kind": "transfer", "family": EXPRESSION_FAMILY, "input": "docs/pictures"}
            | {"latents": True},
            "latents: are not told of a transfer",
        ),
        ({"kind": "transfer", "input": "docs/design"}, "there are no .bmp, .jpeg, .jpg, .png"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused_before_anything_is_written(
    render_set: RenderSet, tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as error:
        render_set(tmp_path / "out", **fields)

    assert says in str(error.value)
    assert not (tmp_path / "out").exists()
