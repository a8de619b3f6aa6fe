"""What the documentation says of rendering is so."""

import re
import tomllib
from pathlib import Path

from facegen.serving.rendering.job import RunConfig, job_from

_ROOT = Path(__file__).parents[3]
_PAGE = (_ROOT / "docs" / "rendering.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)


def test_flags_that_are_named_exist() -> None:
    from facegen.serving.rendering import command, job

    jobs = (job.GenerateJob, job.InterpolateJob, job.ReconstructJob, job.TransferJob)
    fields = {name for it in (*jobs, RunConfig) for name in it.model_fields}
    known = {f"--{name.replace('_', '-')}" for name in fields} | {"--json", "--columns"}
    others = {"--images", "--reader", "--data", "--build-arg"}  # of training, of docker
    text = re.sub(r"`facegen (?!render).*?`", "", _PAGE)

    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))

    assert len(named) > 25
    assert named - known - others == set()
    for registered in command.render.registered_commands:
        assert f"render {registered.name}" in _PAGE


def test_the_job_file_is_one() -> None:
    (text,) = _blocks("toml")
    fields = tomllib.loads(text)
    how = fields.pop("run")

    assert job_from(fields).kind == "generate"
    assert RunConfig.model_validate(how).out == "s3://bucket/faces"


def test_every_fact_of_a_row_is_told() -> None:
    from facegen.serving.rendering import drawing, photos

    source = "".join(Path(str(it.__file__)).read_text("utf-8") for it in (drawing, photos))
    names = set(re.findall(r'"(\w+)": "(?:uint64|string|double|int32)"', source))

    assert len(names) >= 10
    assert {name for name in names if f"`{name}`" not in _PAGE} == set()


def test_tests_that_are_named_exist() -> None:
    named = re.findall(r"`(test_[a-z_0-9]+\.py)(?:::(\w+))?`", _PAGE)

    assert len(named) > 8
    for path, name in named:
        file = Path(__file__).parent / path
        assert file.exists(), path
        assert not name or f"def {name}(" in file.read_text("utf-8"), f"{path}::{name}"
