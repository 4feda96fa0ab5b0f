"""A broken file of certificates is one message, whoever is about to be asked."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from monoglot.editor.certificates import check_certificates
from monoglot.editor.errors import CorpusError, JudgeError, ModelError, MonoglotError, PublishError
from monoglot.editor.hub.connection import open_hub
from monoglot.editor.measures.endpoint import base_url
from monoglot.editor.models.source import resolve
from monoglot.editor.text.corpus import open_corpus


def missing(place: Path) -> Path:
    return place / "missing.pem"


def garbage(place: Path) -> Path:
    (place / "bad.pem").write_text("garbage")
    return place / "bad.pem"


def empty(place: Path) -> Path:
    (place / "empty.pem").touch()
    return place / "empty.pem"


def folder(place: Path) -> Path:
    return place


@pytest.mark.parametrize(
    ("made", "message"),
    [(missing, "is not there"), (garbage, "holds no certifi"), (empty, "holds no certifi"), (folder, "is a folder")],
)  # fmt: skip
def test_what_is_no_file_of_certificates(
    made: Callable[[Path], Path], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(made(tmp_path)))
    with pytest.raises(JudgeError, match=rf"SSL_CERT_FILE is .*, which {message}.* Unset it, or name"):
        check_certificates(JudgeError)


def test_right_ones_are_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certifi = pytest.importorskip("certifi")
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'none'}:{tmp_path}")
    check_certificates(ModelError)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with pytest.raises(ModelError, match=r"SSL_CERT_DIR is .*none, which is no folder"):
        check_certificates(ModelError)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR")
    check_certificates(ModelError)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (lambda: resolve("org/model"), ModelError),
        (lambda: base_url("https://example.org/v1"), JudgeError),
        (lambda: open_hub(token="hf_x"), PublishError),
    ],
)
def test_everybody_who_asks_a_server_says_so(
    asked: Callable[[], object], kind: type[MonoglotError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SSL_CERT_FILE", str(missing(tmp_path)))
    with pytest.raises(kind, match=r"SSL_CERT_FILE is .* which is not there"):
        asked()
    assert base_url("http://127.0.0.1:8080/v1")  # nothing to trust there


def test_a_dataset_of_the_hub_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(missing(tmp_path)))
    with pytest.raises(CorpusError, match="SSL_CERT_FILE is"):
        open_corpus(["org/texts"], ["fr"])
