import numpy as np
import onnx
import onnx.parser
import pytest

from facegen.export.checks import (
    check_batch_independence,
    check_latents,
    check_levels,
    check_structure,
    compare_levels,
)
from facegen.export.errors import (
    BatchDependenceError,
    InvalidGraphError,
    LatentParityError,
    ParityError,
    RandomOperatorError,
)
from facegen.export.runtime import open_session


def graph(signature: str, body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> tested {signature} {{ {body} }}'
    )


def test_random_operator_is_refused_by_name() -> None:
    model = graph("(float[n, 2] x) => (float[n, 2] y)", "r = RandomNormalLike(x) y = Add(x, r)")

    with pytest.raises(RandomOperatorError, match="RandomNormalLike") as caught:
        check_structure(model)

    assert caught.value.operators == ("RandomNormalLike",)


def test_random_operator_inside_a_branch_is_refused() -> None:
    branches = """
        y = If (c) <
            then_branch = a () => (float[n, 2] p) { p = Identity(x) },
            else_branch = b () => (float[n, 2] q) { q = RandomUniformLike(x) }
        >
    """
    model = graph("(float[n, 2] x, bool c) => (float[n, 2] y)", branches)

    with pytest.raises(RandomOperatorError, match="RandomUniformLike"):
        check_structure(model)


def test_graph_that_onnx_refuses_is_refused() -> None:
    model = graph("(float[n, 2] x) => (float[n, 2] y)", "y = Add(x, missing)")

    with pytest.raises(InvalidGraphError, match=r'"tested" is refused by onnx\.checker'):
        check_structure(model)


def test_row_that_sees_its_neighbours_is_refused() -> None:
    model = graph(
        "(float[n, 2] x) => (float[n, 2] y)",
        "axis = Constant <value_ints = [0]> () m = ReduceMean(x, axis) y = Sub(x, m)",
    )
    rows = {"x": np.random.default_rng(0).standard_normal((8, 2), np.float32)}

    with pytest.raises(BatchDependenceError, match="in batches of 1") as caught:
        check_batch_independence("tested", open_session(model), rows, batch_sizes=(1, 2))

    assert caught.value.batch_size == 1
    assert caught.value.differing > 0


def test_row_by_row_graph_passes() -> None:
    model = graph("(float[n, 2] x) => (float[n, 2] y)", "y = Tanh(x)")
    rows = {"x": np.random.default_rng(0).standard_normal((8, 2), np.float32)}

    check_batch_independence("tested", open_session(model), rows, batch_sizes=range(1, 9))


def test_one_level_passes_and_two_are_refused_with_the_value() -> None:
    expected = np.full((2, 4, 4, 3), 255, np.uint8)
    one, two = expected - np.uint8(1), expected - np.uint8(2)

    assert check_levels("tested", compare_levels(one, expected)).mean == 1
    with pytest.raises(ParityError, match="by 2 of 255 levels, allowed 1") as caught:
        check_levels("tested", compare_levels(two, expected))
    assert caught.value.levels == 2


def test_levels_do_not_wrap_around() -> None:
    error = compare_levels(np.zeros((1, 2), np.uint8), np.full((1, 2), 255, np.uint8))

    assert error.largest == 255


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_latents_that_differ_or_are_no_numbers_are_refused(wrong: float) -> None:
    expected = np.random.default_rng(0).standard_normal((8, 4), np.float32)
    latents = expected.copy()
    latents[3, 2] += wrong

    with pytest.raises(LatentParityError, match="in mu by"):
        check_latents("tested", {"mu": latents}, {"mu": expected}, limit=0.01)
