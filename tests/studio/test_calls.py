import ast
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from facegen.client import DrawnFace, ExpressionTarget, FaceCrop
from facegen.client.commands.connection import Connection
from facegen.studio.calls import Call, Photo, Request, ShownServer, literal

_PLAIN = ShownServer("localhost:50051", Connection())
_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(name=_NAMES)
def test_any_name_of_a_file_survives_the_shell_and_python(name: str) -> None:
    photo = Photo(name, b"")
    request = Request(Call("encode", [[photo]], {}), ["transfer", photo.argument], [])

    words = shlex.split(request.command_line(_PLAIN))
    called = ast.parse(request.python(_PLAIN)).body[-1]

    assert Path(words[2]) == Path(name)
    assert not words[2].startswith("-")
    strings = {it.value for it in ast.walk(called) if isinstance(it, ast.Constant)}
    assert name in strings


@given(value=st.recursive(st.text() | st.integers() | st.booleans(), st.lists))
def test_a_literal_means_its_value(value: object) -> None:
    assert ast.literal_eval(literal(value)) == value


def test_values_are_shown_by_what_is_not_their_default() -> None:
    assert literal(DrawnFace(7)) == "DrawnFace(seed=7)"
    assert literal(DrawnFace(7, prior="smiling")) == 'DrawnFace(seed=7, prior="smiling")'
    assert literal([ExpressionTarget("anger", 0.5)]) == (
        '[ExpressionTarget(expression="anger", strength=0.5)]'
    )
    assert literal({"Smiling": -1.5}) == '{"Smiling": -1.5}'


def test_a_program_imports_what_it_names() -> None:
    call = Call("edit", [[DrawnFace(1)], {"Smiling": 1}], {"crop": FaceCrop()})

    program = call.python(_PLAIN, [])

    assert program.startswith("from facegen.client import Client, DrawnFace, FaceCrop\n")


def test_long_calls_have_a_line_for_each_argument() -> None:
    call = Call("generate", [12], {"family": "f" * 50, "prior": "p" * 50})

    lines = call.python(_PLAIN, []).splitlines()

    assert "    answer = client.generate(" in lines
    assert "        12," in lines


def test_a_token_is_never_shown() -> None:
    server = ShownServer("faces.example:443", Connection(token="secret", tls=True))
    request = Request(Call("models", [], {}), ["models"], [])

    command, program = request.command_line(server), request.python(server)

    assert "secret" not in command + program
    assert command == "facegen models --server faces.example:443 --tls"
    assert program.splitlines()[0] == "import os"
    assert 'credentials=Tls(), token=os.environ["FACEGEN_TOKEN"]' in program


def test_tls_of_a_server_is_shown_with_its_files() -> None:
    connection = Connection(tls_ca=Path("my ca.pem"), tls_server_name="faces.example")
    server = ShownServer("10.0.0.7:50051", connection)
    request = Request(Call("models", [], {}), ["models"], [])

    words = shlex.split(request.command_line(server))
    program = request.python(server)

    assert words[4:] == ["--tls-ca", "my ca.pem", "--tls-server-name", "faces.example"]
    assert 'credentials=Tls(ca="my ca.pem", server_name="faces.example")' in program
    assert "import Client, Tls" in program


def test_photos_give_files_of_their_own_format() -> None:
    assert Photo("me.JPG", b"").mime_type == "image/jpeg"
    assert Photo("me.webp", b"").suffix == ".webp"
    assert Photo("me.gif", b"").suffix == ".png"
    assert Photo("me", b"").mime_type == "image/png"
