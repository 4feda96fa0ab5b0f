"""The tests mirror the rooms: a module has a test file of its name, or stands here with the file that covers it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]

COVERED = {
    "cards/figures/candidates.py": "cards/words/test_candidates.py",
    "cards/figures/canvas.py": "cards/figures/test_draw.py",
    "cards/figures/colours.py": "cards/figures/test_draw.py",
    "cards/figures/curves.py": "cards/figures/test_draw.py",
    "cards/figures/heat_maps.py": "cards/figures/test_draw.py",
    "cards/maker.py": "cards/test_refresh.py",
    "cards/metadata/results.py": "cards/metadata/test_metadata.py",
    "cards/metadata/vocabulary.py": "cards/metadata/test_metadata.py",
    "cards/words/adapters.py": "cli/test_adapter.py",
    "cards/words/sections.py": "cards/test_render.py",
    "cards/words/wording.py": "cards/test_render.py",
    "cli/commands/bake.py": "cli/test_activate.py",
    "cli/commands/convert.py": "editor/gguf/test_convert.py",
    "cli/commands/demo.py": "test_readme.py",
    "cli/commands/verify.py": "cli/test_gguf.py",
    "cli/edit_options.py": "editor/edits/test_recipe.py",
    "cli/main.py": "cli/test_console.py",
    "cli/options.py": "cli/test_console.py",
    "cli/show.py": "cli/test_terminal.py",
    "cli/steps/bake.py": "cli/test_activate.py",
    "cli/steps/detect.py": "cli/commands/test_detect.py",
    "cli/steps/evaluate.py": "cli/commands/test_evaluate.py",
    "cli/steps/export.py": "cli/commands/test_export.py",
    "cli/steps/find.py": "cli/commands/test_find.py",
    "cli/steps/forecast.py": "editor/forecast/test_of_export.py",
    "cli/steps/gguf.py": "cli/test_gguf.py",
    "cli/steps/push.py": "cli/commands/test_push.py",
    "cli/steps/runtimes.py": "cli/commands/test_runtimes.py",
    "cli/steps/tokens.py": "cli/commands/test_tokens.py",
    "cli/steps/verify.py": "cli/test_gguf.py",
    "editor/edits/card_maker.py": "cards/test_refresh.py",
    "editor/edits/certificate.py": "editor/proof/test_certificate.py",
    "editor/edits/evaluation.py": "cli/commands/test_evaluate.py",
    "editor/edits/fit.py": "editor/edits/test_calibration.py",
    "editor/edits/low_rank.py": "editor/edits/test_adapter.py",
    "editor/edits/manifest.py": "editor/proof/test_rebuild.py",
    "editor/edits/applied.py": "editor/edits/test_vectors.py",
    "editor/edits/layer_vector.py": "editor/edits/test_vectors.py",
    "editor/models/residual.py": "editor/edits/test_vectors.py",
    "editor/statistics/outputs.py": "editor/edits/test_one_table.py",
    "editor/statistics/record_readers.py": "editor/statistics/test_readers.py",
    "editor/statistics/record_residual.py": "editor/edits/test_vectors.py",
    "editor/statistics/residual.py": "editor/edits/test_vectors.py",
    "editor/statistics/record_outputs.py": "editor/edits/test_one_table.py",
    "editor/edits/plan.py": "editor/edits/test_recipe.py",
    "editor/edits/request.py": "editor/edits/test_recipe.py",
    "editor/edits/script_edit.py": "editor/edits/test_silencing.py",
    "editor/files/packed/awq.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/bitsandbytes.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/compressed_tensors.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/fp8.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/gptq.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/half_bytes.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/hqq.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/mlx.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/modelopt.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/mxfp4.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/numbers.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/plain.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/settings.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/stored.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/torchao.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/whole_bytes.py": "editor/files/packed/test_matrix.py",
    "editor/files/packed/words.py": "editor/files/packed/test_matrix.py",
    "editor/gguf/converted.py": "editor/gguf/test_convert.py",
    "editor/gguf/describe.py": "cli/test_gguf.py",
    "editor/hub/push.py": "cli/commands/test_push.py",
    "editor/live/adapted.py": "editor/proof/test_adapter.py",
    "editor/live/experts.py": "editor/models/test_mixtures.py",
    "editor/live/layered.py": "editor/statistics/test_by_layer.py",
    "editor/live/memory.py": "editor/statistics/test_by_layer.py",
    "editor/live/places.py": "editor/statistics/test_by_layer.py",
    "editor/live/skeleton.py": "editor/statistics/test_by_layer.py",
    "editor/live/states.py": "editor/statistics/test_by_layer.py",
    "editor/live/stored.py": "editor/statistics/test_by_layer.py",
    "editor/live/streaming.py": "editor/statistics/test_by_layer.py",
    "editor/measures/keep.py": "cli/test_evaluate_model.py",
    "editor/measures/measure.py": "cli/test_evaluate_model.py",
    "editor/measures/options.py": "cli/test_evaluate_model.py",
    "editor/measures/search.py": "cli/test_activate.py",
    "editor/live/sampled.py": "cli/test_silence.py",
    "editor/measures/still_written.py": "cli/test_silence.py",
    "editor/measures/subject.py": "cli/test_evaluate_model.py",
    "editor/models/head.py": "editor/edits/test_output_rows.py",
    "editor/statistics/final_states.py": "editor/edits/test_floor.py",
    "editor/models/feed_forward.py": "editor/models/test_families.py",
    "editor/models/identity.py": "editor/models/test_families.py",
    "editor/models/networks.py": "editor/models/test_mixtures.py",
    "editor/models/quantised.py": "editor/files/packed/test_recognised.py",
    "editor/models/source.py": "cli/bad_input/test_model.py",
    "editor/models/target.py": "editor/models/test_families.py",
    "editor/proof/prove.py": "cli/commands/test_export.py",
    "editor/proof/settings.py": "cli/commands/test_export.py",
    "editor/runtimes/adapters/ctranslate2.py": "editor/runtimes/adapters/test___init__.py",
    "editor/runtimes/adapters/greedy.py": "editor/runtimes/test_process.py",
    "editor/runtimes/adapters/mistralrs.py": "editor/runtimes/adapters/test___init__.py",
    "editor/runtimes/adapters/mlx.py": "editor/runtimes/adapters/test___init__.py",
    "editor/runtimes/adapters/onnxruntime.py": "editor/runtimes/adapters/test___init__.py",
    "editor/runtimes/adapters/openvino.py": "editor/runtimes/adapters/test___init__.py",
    "editor/runtimes/adapters/serve.py": "editor/runtimes/test_serving.py",
    "editor/runtimes/adapters/transformers.py": "editor/runtimes/test_process.py",
    "editor/runtimes/adapters/worker.py": "editor/runtimes/test_process.py",
    "editor/statistics/detection.py": "editor/statistics/test_detect.py",
    "editor/statistics/inputs.py": "editor/statistics/test_sample.py",
    "editor/statistics/reuse.py": "cli/commands/test_detect.py",
    "editor/statistics/sums.py": "editor/statistics/test_recorder.py",
    "editor/version.py": "test_project.py",
}  # fmt: skip


def modules() -> set[str]:
    found = (path.relative_to(ROOT) for room in ("editor", "cards", "cli") for path in (ROOT / room).rglob("*.py"))
    return {path.as_posix() for path in found if not path.name.startswith("__")}


def of_its_own(module: str) -> Path:
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def test_every_module_has_a_test_file() -> None:
    assert {module for module in modules() if not of_its_own(module).exists()} == set(COVERED)


def test_the_files_that_cover_others_exist() -> None:
    assert [name for name in COVERED.values() if not (ROOT / "tests" / name).is_file()] == []
