"""Every config.pbtxt is parsed with Triton's own protobuf, and means what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.serving.servable import ServableModel, read_servable
from qtseg_edge.serving.triton_config import TritonOptions, config_text, quoted
from tests.runtime.engines import write_engine
from tests.serving.models import CARD, write_graph

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="pip install 'tritonclient[grpc]'")


def parsed(text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, model_config_pb2.ModelConfig())


def config(model: ServableModel, **options: Any) -> Any:
    return parsed(config_text(model, TritonOptions(**{"name": "polyp", "backend": "onnxruntime", **options})))


@pytest.fixture
def dynamic(tmp_path: Path) -> ServableModel:
    return read_servable(write_graph(tmp_path / "bright.onnx"))


def shapes(tensors: Any) -> dict[str, list[int]]:
    assert all(tensor.data_type == model_config_pb2.TYPE_UINT8 for tensor in tensors)
    return {tensor.name: list(tensor.dims) for tensor in tensors}


def test_an_onnx_file_of_any_batch(dynamic: ServableModel) -> None:
    found = config(dynamic, kind="gpu", instances=2, max_queue_delay_ms=1.5)
    assert (found.name, found.backend, found.max_batch_size) == ("polyp", "onnxruntime", 8)
    assert shapes(found.input) == {"image": [64, 96, 3]}
    assert shapes(found.output) == {"mask": [64, 96], "confidence": [64, 96]}
    assert found.dynamic_batching.max_queue_delay_microseconds == 1500
    assert not found.dynamic_batching.preferred_batch_size, "Triton advises against it but for engines"
    assert [(group.kind, group.count) for group in found.instance_group] == [(model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)]
    assert found.version_policy.latest.num_versions == 1
    assert (
        parsed(config_text(dynamic, TritonOptions("x", "onnxruntime"))).parameters["qtseg_edge.classes"].string_value.count("quoted") == 1
    )


def test_warm_up_runs_the_smallest_and_the_largest_batch(dynamic: ServableModel) -> None:
    found = config(dynamic, largest_batch=5).model_warmup
    assert [sample.batch_size for sample in found] == [1, 5]
    for sample in found:
        assert shapes([named(name, tensor) for name, tensor in sample.inputs.items()]) == {"image": [64, 96, 3]}
        assert sample.inputs["image"].random_data


def named(name: str, tensor: Any) -> Any:
    return model_config_pb2.ModelInput(name=name, data_type=tensor.data_type, dims=tensor.dims)


def test_a_fixed_batch_is_in_the_dims_and_nothing_is_batched() -> None:
    found = config(read_servable(default_model()))
    assert found.max_batch_size == 0
    assert shapes(found.input) == {"image": [1, 352, 352, 3]}
    assert shapes(found.output) == {"mask": [1, 352, 352], "confidence": [1, 352, 352]}
    assert not found.HasField("dynamic_batching")
    assert [(sample.batch_size, list(sample.inputs["image"].dims)) for sample in found.model_warmup] == [(1, [1, 352, 352, 3])]


def test_an_engine_is_batched_to_its_best_size(engine: Path) -> None:
    found = config(read_servable(engine), backend="tensorrt")
    assert (found.backend, found.max_batch_size) == ("tensorrt", 4)
    assert list(found.dynamic_batching.preferred_batch_size) == [2]
    assert shapes(found.input) == {"image": [32, 64, 3]}


def test_the_python_back_end_is_told_its_engine_and_queues_nothing(dynamic: ServableModel) -> None:
    found = config(dynamic, backend="python", device="openvino:f32", kind="cpu")
    assert found.parameters["qtseg_edge.device"].string_value == "openvino:f32"
    assert found.max_batch_size == 8 and not found.HasField("dynamic_batching")
    assert found.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


@given(st.text())
def test_any_text_is_read_back_by_triton(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair: no text of a JSON file
    assert parsed(f"name: {quoted(text)}").name == text


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=5))
def test_class_names_reach_the_client_whatever_they_are(classes: list[str]) -> None:
    import json

    card = replace(CARD, classes=tuple(classes), colours_rgb=((1, 2, 3),) * len(classes))
    model = read_servable(default_model())
    found = config(replace(model, spec=replace(model.spec, card=card)))
    assert json.loads(found.parameters["qtseg_edge.classes"].string_value) == classes


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "ä", "x" * 101, "a b", "a\n"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"--name: wanted letters"):
        TritonOptions(name, "onnxruntime")


def test_batches_that_the_model_does_not_take_are_refused(engine: Path, dynamic: ServableModel) -> None:
    with pytest.raises(UsageError, match=r"--max-batch: .* takes 1 to 4 images at once, got 5"):
        config(read_servable(engine), backend="tensorrt", largest_batch=5)
    with pytest.raises(UsageError, match=r"takes 1 at once, got 4; for more: qtseg-edge export CHECKPOINT --batch dynamic"):
        config(read_servable(default_model()), largest_batch=4)
    with pytest.raises(UsageError, match=r"--preferred-batch: wanted sizes from 1 to 8, got 4, 9"):
        config(dynamic, preferred_batches=(4, 9))
    with pytest.raises(UsageError, match=r"--preferred-batch: .* one request at a time"):
        config(read_servable(default_model()), preferred_batches=(4,))


def test_an_engine_that_is_never_filled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes 2 to 4 images at once, .* build-engine MODEL --batch 1:4:4"):
        read_servable(write_engine(tmp_path, batches=(2, 4, 4)))


def test_an_engine_is_taken_only_by_its_hash(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1] + b"!")
    for trust in (False, True):
        with pytest.raises(IncompatibleError, match=r"its bytes are not those its sidecar describes"):
            read_servable(engine, trust)


def test_an_engine_of_somebody_else_wants_trust(engine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another user"))
    with pytest.raises(IncompatibleError, match=r"open it with --trust if you know where it comes from"):
        read_servable(engine)
    assert read_servable(engine, trust=True).batches == (1, 2, 4)


def test_other_files_are_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted an \.onnx file or an engine .* qtseg-edge export .*model\.pt -o MODEL\.onnx"):
        read_servable(tmp_path / "model.pt")
    with pytest.raises(UsageError, match=r"no such model"):
        read_servable(tmp_path / "absent.onnx")
