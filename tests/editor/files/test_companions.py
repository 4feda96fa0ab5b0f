"""What comes along with a checkpoint is chosen by what it is; what is not the file that it seems to be is refused."""

import json
from pathlib import Path

import pytest

from monoglot.editor.errors import CheckpointError, ModelError, MonoglotWarning
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.files.companions import check_no_adapter, companions
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

OURS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "tokenizer.model",
    "qwen.tiktoken",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/tool.jinja", "LICENSE", "LICENSE.txt", "NOTICE",
    "USE_POLICY.md", "Gemma_LICENSE.md", "License.txt", "Copying", "Terms of Use.md", "EULA.txt", "normalizer.json",
)  # fmt: skip
NOT_OURS = (
    "wandb/run-1/files/wandb-metadata.json", "train.log", "checkpoint-500/trainer_state.json", "trainer_state.json",
    "training_args.bin", "optimizer.pt", "weights.npz", "model.onnx.data", "model.task", "model.safetensors.bak",
    "all_results.json",
    "pytorch_model.bin.index.json", "openvino_model.xml", "notes.md", "id_rsa", "events.out.tfevents.1", "setup.py",
    "checkpoint-500/config.json", "rng_state.pth", "tf_model.h5", "scheduler.pt", "README.md.orig",
)  # fmt: skip


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if name.endswith(".json") else "x")
    return folder


def test_files_are_told_by_what_they_are(tmp_path: Path) -> None:
    made(tmp_path, *OURS, *NOT_OURS, ".git/config", ".DS_Store", "model.safetensors")
    found = companions(tmp_path, {}, {"model.safetensors"})
    assert sorted(found.along) == sorted(OURS)
    assert sorted(found.left_behind) == sorted(NOT_OURS)


@pytest.mark.parametrize(
    "config", [{"auto_map": {"AutoModel": "m.M"}}, {"text_config": {"auto_map": {"AutoModel": "m.M"}}}]
)
def test_code_comes_along_where_the_config_names_some(tmp_path: Path, config: dict[str, object]) -> None:
    made(tmp_path, "modeling_m.py", "m.py")
    assert companions(tmp_path, config, set()).along == ("m.py", "modeling_m.py")
    assert companions(tmp_path, {}, set()).along == ()


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "LICENSE", "merges.txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
     ("\n<!DOCTYPE html><html></html>", "web page"), ("<HTML>", "web page")],
)  # fmt: skip
def test_a_pointer_or_a_page_in_place_of_any_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} is a {message}"):
        companions(tmp_path, {}, set())


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not valid JSON"), ('{"a": 1', "not valid JSON"), ("Not Found", "not valid JSON"),
     ("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
     ('{"error": "Repository not found"}', "a server's refusal"),
     ("{" + " " * 2**21, "it has no end"), ("x" * 2**21, "it has no end")],
    ids=["empty", "cut", "words", "xml", "refusal", "a long one cut", "a long one"],
)  # fmt: skip
def test_a_file_of_json_is_json(model: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    """What is published is whole: a tokenizer that is none would come along into the checkpoint in silence."""
    folder = copied(model, tmp_path / "model")
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as found:
        open_target(resolve(str(folder)))
    assert name in str(found.value) and "Download" in str(found.value)


def test_json_as_tokenizers_have_it_comes_along(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "model")
    (folder / "vocab.json").write_text(json.dumps({f"token {number}": number for number in range(100_000)}) + "\n")
    (folder / "special_tokens_map.json").write_text('{"a": NaN, "a": 1, "error": "<err>", "unk_token": "<unk>"}')
    (folder / "added_tokens.json").write_text("[]")
    open_target(resolve(str(folder)))


@pytest.mark.parametrize("page", ["<!DOCTYPE html><html>Sign in</html>", "<?xml version='1.0'?><Error/>"])
def test_a_page_in_place_of_the_weights(model: Path, tmp_path: Path, page: str) -> None:
    folder = copied(model, tmp_path / "model")
    (folder / "model.safetensors").write_text(page)
    with pytest.raises(CheckpointError, match="is a web page"):
        read_checkpoint(folder)


def test_a_pointer_in_place_of_the_config(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "m")
    (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"config\.json is a Git LFS pointer"):
        read_checkpoint(folder)


def test_an_adapter_beside_the_model(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "m")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))
    with pytest.raises(ModelError, match=r"holds an adapter beside the model .*merge_and_unload"):
        open_target(resolve(str(folder)))
    (folder / "model.safetensors").unlink()
    check_no_adapter(folder)
    with pytest.raises(ModelError, match=r"is an adapter of a/b, not a model"):
        open_target(resolve(str(folder)))


def test_links_that_lead_out_are_refused_by_name(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "id_rsa"
    made(tmp_path, "secrets/id_rsa")
    for name in ("tokenizer.model", "LICENSE", "chat_templates"):
        folder = copied(model, tmp_path / f"m-{name}")
        (folder / name).symlink_to(secret if name != "chat_templates" else secret.parent)
        if name == "chat_templates":  # a folder that is a link is not entered
            assert not any("id_rsa" in one for one in companions(folder, {}, set()).along)
            continue
        with pytest.raises(
            CheckpointError, match=rf"{name} is a link that leads out of the model's folder, to .*id_rsa"
        ):
            open_target(resolve(str(folder)))
    folder = copied(model, tmp_path / "m-weights")
    (folder / "model.safetensors").rename(tmp_path / "weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a link that leads out"):
        open_target(resolve(str(folder)))


def test_links_into_the_hubs_cache_and_the_folder_are_followed(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    copied(model, snapshot)
    blobs.mkdir()
    for path in sorted(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(Path("..") / ".." / "blobs" / path.name)
    (snapshot / "LICENSE.txt").symlink_to("config.json")
    assert open_target(resolve(str(snapshot))).source.name == "a/b"
    assert "LICENSE.txt" in companions(snapshot, {}, set()).along


def test_the_caches_own_folder_is_told_from_a_model(model: Path, tmp_path: Path) -> None:
    snapshot = copied(model, tmp_path / "models--a--b" / "snapshots" / ("0" * 40))
    with pytest.raises(ModelError, match=rf"is a folder of the Hub's cache\. The model lies in {snapshot}"):
        open_target(resolve(str(tmp_path / "models--a--b")))


def test_an_index_that_lists_what_no_shard_holds_is_a_warning(model: Path, tmp_path: Path) -> None:
    folder = copied(model, tmp_path / "m")
    names = [tensor.name for _, tensor in read_checkpoint(folder).tensors()]
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys([*names, "none.weight"], "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.warns(MonoglotWarning, match=r"lists 1 tensors that no shard holds, for example 'none\.weight'"):
        assert len(list(read_checkpoint(folder).tensors())) == len(names)


def test_an_index_that_leaves_out_a_shard_is_refused(model: Path, tmp_path: Path) -> None:
    """Its tensors would be missing from what is written, and nothing would say so."""
    folder = copied(model, tmp_path / "m")
    names = [tensor.name for _, tensor in read_checkpoint(folder).tensors()]
    (folder / "model.safetensors").rename(folder / "model-00002-of-00002.safetensors")
    (folder / "model-00001-of-00002.safetensors").write_bytes(
        (folder / "model-00002-of-00002.safetensors").read_bytes()
    )
    index = {"weight_map": dict.fromkeys(names, "model-00002-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"leaves out 'model-00001-of-00002\.safetensors'"):
        read_checkpoint(folder)


def copied(model: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
