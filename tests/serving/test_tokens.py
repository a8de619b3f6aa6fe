import hashlib
import json
import logging
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facegen.client.cli import app
from facegen.serving.errors import ServerError
from facegen.serving.security.tokens import Scope, Tokens


class Clock:
    """A clock that the test sets."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def _entry(secret: str, *, name: str = "alice", more: str = "") -> str:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = ["infer"]\n{more}\n'


def _run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["token", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_token_is_found_by_its_hash(path: Path) -> None:
    path.write_text(_entry("secret") + _entry("other", name="bob"))

    tokens = Tokens(path)

    found = tokens.find("secret")
    assert found is not None
    assert (found.name, found.scopes) == ("alice", frozenset({Scope.INFER}))
    assert tokens.find("Secret") is None
    assert tokens.find(hashlib.sha256(b"secret").hexdigest()) is None
    assert tokens.find("") is None


def test_two_tokens_of_one_name_are_valid_at_a_time(path: Path) -> None:
    path.write_text(_entry("old") + _entry("new"))

    tokens = Tokens(path)

    assert tokens.find("old") == tokens.find("new") is not None


def test_token_expires_while_the_server_runs(path: Path) -> None:
    clock = Clock()
    path.write_text(_entry("secret", more="expires = 2027-01-15T08:00:10Z"))
    tokens = Tokens(path, clock=clock)

    clock.now += 9.5
    before = tokens.find("secret")
    clock.now += 1
    after = tokens.find("secret")

    assert before is not None
    assert after is None


def test_expired_token_is_told_when_the_file_is_read(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(_entry("secret", more="expires = 2020-01-01T00:00:00Z"))

    assert Tokens(path).find("secret") is None
    assert "name=alice" in caplog.text


def test_file_is_read_again_a_second_after_it_changed(path: Path) -> None:
    clock = Clock()
    path.write_text(_entry("old"))
    tokens = Tokens(path, clock=clock)
    path.write_text(_entry("brand-new"))

    clock.now += 0.5
    early = tokens.find("brand-new")
    clock.now += 0.5

    assert early is None
    assert tokens.find("brand-new") is not None
    assert tokens.find("old") is None


@pytest.mark.parametrize("change", ["[[tokens]", "", "[[tokens]]\nname = 'x'", None])
def test_broken_new_file_keeps_the_old_tokens_and_is_logged_once(
    path: Path, change: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path.write_text(_entry("secret"))
    tokens = Tokens(path, clock=clock)
    path.unlink() if change is None else path.write_text(change)

    for _ in range(3):
        clock.now += 2
        assert tokens.find("secret") is not None

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert str(path) in caplog.text

    path.write_text(_entry("repaired"))
    clock.now += 2
    assert tokens.find("repaired") is not None


def test_mounted_secret_whose_link_is_turned_is_read_again(tmp_path: Path) -> None:
    clock = Clock()
    for name in ("one", "two"):
        (tmp_path / name).write_text(_entry(name))
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "tokens.toml"
    link.symlink_to("one")
    tokens = Tokens(link, clock=clock)

    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    clock.now += 1

    assert tokens.find("two") is not None


def test_empty_list_lets_nobody_in(path: Path) -> None:
    path.write_text("tokens = []")

    assert Tokens(path).find("secret") is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_entry("s").replace("alice", "a b"), "tokens.0.name"),
        (_entry("s").replace("alice", r"a\nb"), "tokens.0.name"),
        (_entry("s").replace("infer", "root"), "'infer' or 'admin'"),
        (_entry("s").replace('["infer"]', "[]"), "tokens.0.scopes"),
        (_entry("s", more='colour = "red"'), "tokens.0.colour"),
        (_entry("s", more="expires = 2030-01-01T00:00:00"), "timezone"),
        ("", "tokens: Field required"),
        ("tokens = [", "Invalid"),
        ("\x00", "Invalid"),
    ],
)
def test_wrong_file_is_refused_at_the_start(path: Path, content: str, said: str) -> None:
    path.write_text(content)

    with pytest.raises(ServerError, match="--tokens") as caught:
        Tokens(path)

    assert said in str(caught.value)


def test_token_in_the_place_of_its_hash_is_not_repeated_in_the_error(path: Path) -> None:
    path.write_text('[[tokens]]\nname = "a"\nsha256 = "facegen_secret"\nscopes = ["infer"]')

    with pytest.raises(ServerError, match="sha256") as caught:
        Tokens(path)

    assert "secret" not in str(caught.value)


def test_missing_file_is_told(path: Path) -> None:
    with pytest.raises(ServerError, match=r"tokens\.toml: No such file"):
        Tokens(path)


def test_command_prints_a_token_whose_entry_works(path: Path) -> None:
    code, stdout, _ = _run("gallery", "--scope", "infer", "--scope", "admin")
    secret, _, entry = stdout.partition("\n")
    path.write_text(entry)

    found = Tokens(path).find(secret)

    assert code == 0
    assert secret not in entry
    assert found is not None
    assert (found.name, found.scopes) == ("gallery", frozenset(Scope))


def test_appended_tokens_all_work_and_the_file_holds_none_of_them(path: Path) -> None:
    secrets = [_run(name, "--append", path)[1].strip() for name in ("a", "b", "a")]

    tokens = Tokens(path)

    found = [tokens.find(secret) for secret in secrets]
    assert [token and token.name for token in found] == ["a", "b", "a"]
    assert not any(secret in path.read_text() for secret in secrets)


def test_expiry_is_so_many_days_from_now(path: Path) -> None:
    _, stdout, _ = _run("a", "--expires-days", "2", "--json")
    result = json.loads(stdout)
    path.write_text(result["entry"])

    found = Tokens(path).find(result["token"])

    assert found is not None
    assert tomllib.loads(result["entry"])["tokens"][0]["expires"].timestamp() == found.expires


@pytest.mark.parametrize("name", ["", "two words", "line\n", "a\x1b[31m", "a" * 65, '"'])
def test_name_that_could_forge_a_log_line_is_misuse(name: str) -> None:
    code, stdout, _ = _run(name)

    assert (code, stdout) == (2, "")


def test_file_that_cannot_be_written_is_an_error_and_no_token_is_shown(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["token", "a", "--append", str(tmp_path)])

    assert isinstance(done.exception, ServerError)
    assert done.stdout == ""
