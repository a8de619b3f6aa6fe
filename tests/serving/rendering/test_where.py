import pytest

from facegen.serving.errors import InputError
from facegen.serving.rendering.rows import Fact
from facegen.serving.rendering.where import Where

FACTS: dict[str, Fact] = {"index": 7, "face_score": 0.5, "expression": "anger", "psnr_db": None}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", True),
        ("index == 7", True),
        ("index % 2 == 0", False),
        ("0.4 < face_score <= 0.5 and expression == 'anger'", True),
        ("expression in ('anger', 'fear') or index > 100", True),
        ("expression not in ['anger']", False),
        ("not face_score > 1", True),
        ("-index < -6", True),
        ("(index + 1) * 2 // 4 == 4 and index / 2 > 3", True),
        ("psnr_db > 0", False),
        ("psnr_db + 1 > 0", False),
        ("-psnr_db < 0", False),
        ("not psnr_db > 0", True),
    ],
)
def test_a_condition_tells_whether_facts_satisfy_it(text: str, kept: bool) -> None:
    assert Where(text, FACTS).keeps(FACTS) is kept


def test_the_names_that_a_condition_looks_at_are_known() -> None:
    assert Where("index > 1 and face_score > 0", FACTS).names == {"index", "face_score"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index >", "'index >' is no condition"),
        ("smile > 1", 'there is no fact "smile" of this job\'s rows; use index, face_score'),
        ("__import__('os')", "has no place in a condition"),
        ("index.real > 1", "'index.real' has no place"),
        ("index if index else 1", "has no place"),
        ("index ** 2", "has no place"),
        ("(" * 400 + "index" + ")" * 400, "is no condition"),
        ("index > 1 " * 200, "more than 1000 characters"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        Where(text, FACTS)

    assert str(error.value).startswith("where: ")
    assert says in str(error.value)


def test_facts_that_do_not_go_together_are_told() -> None:
    with pytest.raises(InputError, match=r"cannot be told of .*not supported between"):
        Where("expression > 3", FACTS).keeps(FACTS)
