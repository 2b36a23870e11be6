"""The exported matching head: ONNX and NumPy compute what the network computes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import openlum as ol
from openlum.artefact.json_file import write_json
from openlum.artefact.tensors import write_tensors
from openlum.artefact.verify import verify
from openlum.errors import InputError
from openlum.export import onnx_head
from openlum.export.head import describe_head, export_head, head_weights
from openlum.export.numpy_head import Head
from openlum.export.onnx_head import ITEMS, LOGITS, SIMILARITIES, USER_VECTORS, write_onnx
from openlum.field_spec import FieldSpec
from openlum.model import LargeUserModel, Questions
from openlum.model.batch import blank
from openlum.model.matching_cost import bytes_per_user, flops_per_candidate
from openlum.model.matching_head import KEY_WIDTH
from tests.tiny import lum

from .conftest import CONTEXT, FEEDBACK, KINDS, model_of, random_context, unit_rows

Request = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def requests(model: LargeUserModel, count: int) -> list[Request]:
    """Return random requests: user vectors (M, E), embeddings of 1 to 9 candidates (n, E), and the encoded context."""
    rng, width = np.random.default_rng(3), model.config.settings.embedding_width
    vectors = len(model.network.user_vector_names)
    return [
        (
            unit_rows(rng, vectors, width),
            unit_rows(rng, rng.integers(1, 10), width),
            random_context(model.config.context, rng),
        )
        for _ in range(count)
    ]


@torch.no_grad()
def network_outputs(model: LargeUserModel, request: Request) -> np.ndarray:
    """Return what the network itself predicts, (n, R + 2 F): logits and similarities.

    Known fields that are no context have a value: it must not count.
    """
    vectors, items, context = request
    n = len(items)
    condition = blank(model.config.condition, n)
    other = {spec.name for spec in model.config.condition if not spec.feedback} - {s.name for s in model.config.context}
    for name in other:
        condition[name].fill_(1)
    for name, value in context.items():
        row = torch.from_numpy(np.asarray(value))
        condition[name] = row.expand(n, *row.shape)
    zeros = torch.zeros(n, dtype=torch.int64)
    questions = Questions(condition, zeros, zeros, zeros)
    matched = model.network.match(torch.from_numpy(vectors)[None], questions, torch.from_numpy(items))
    return torch.cat([*matched.logits, matched.similarities], 1).numpy()


def test_numpy_equals_the_network(model: LargeUserModel, tmp_path: Path) -> None:
    write_json(tmp_path / "head.json", describe_head(model))
    write_tensors(head_weights(model.network), tmp_path / "head.safetensors")
    head = Head(tmp_path)
    for request in requests(model, 40):
        np.testing.assert_allclose(
            np.concatenate(head(*request), 1), network_outputs(model, request), atol=1e-5, rtol=1e-5
        )


def test_onnx_equals_the_network(model: LargeUserModel, tmp_path: Path) -> None:
    write_onnx(model.network, tmp_path / "head.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx")
    assert [node.name for node in session.get_inputs()] == [USER_VECTORS, ITEMS]
    assert [node.name for node in session.get_overridable_initializers()] == [s.name for s in model.config.context]
    for vectors, items, context in requests(model, 40):
        outputs = session.run([LOGITS, SIMILARITIES], {USER_VECTORS: vectors, ITEMS: items, **context})
        expected = network_outputs(model, (vectors, items, context))
        np.testing.assert_allclose(np.concatenate(outputs, 1), expected, atol=1e-5, rtol=1e-5)


def test_the_context_matters_only_where_the_network_reads_it() -> None:
    model = model_of(**KINDS["all types of fields"])
    vectors, items, _ = requests(model, 1)[0]
    predictions = {
        name: network_outputs(model, (vectors, items, context))
        for name, context in {"any": {}, "hour": {"hour": np.array(3)}, "words": {"words": np.array([2, 5])}}.items()
    }
    assert np.abs(predictions["any"] - predictions["hour"]).max() > 1e-3
    assert np.abs(predictions["any"] - predictions["words"]).max() > 1e-3
    assert [s.name for s in model_of(**KINDS["no feedback"]).config.context] == ["hour", "weekday"]
    assert model_of(**KINDS["no conditions"]).config.context == []
    assert not {spec.name for spec in model.config.context} & {spec.name for spec in FEEDBACK}


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head of a model that was trained on a small log, written by the command line."""
    directory = tmp_path_factory.mktemp("exported")
    done = lum("export", "head", str(tiny_run / "runs/tiny/model"), "--out", "head", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "feedback=skip, feedback=click" in done.stdout
    assert done.stderr == ""
    return directory / "head"


def test_the_written_file_runs_without_torch_and_without_openlum(
    exported: Path, tiny_run: Path, tmp_path: Path
) -> None:
    model = LargeUserModel.load(tiny_run / "runs/tiny/model")
    vectors, items, context = requests(model, 1)[0]
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "items.npy", items)
    context = {name: value.tolist() for name, value in context.items()} | {"scenario": 2}
    program = (
        "import sys; sys.modules['torch'] = sys.modules['openlum'] = None\n"
        f"sys.path.insert(0, {str(exported)!r})\n"
        "import numpy as np\n"
        "from head import Head\n"
        f"outputs = Head({str(exported)!r})(np.load('vectors.npy'), np.load('items.npy'), {context!r})\n"
        "np.save('outputs.npy', np.concatenate(outputs, 1))\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True, timeout=120)
    expected = network_outputs(model, (vectors, items, {name: np.asarray(value) for name, value in context.items()}))
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), expected, atol=1e-5, rtol=1e-5)


def test_the_description_names_inputs_and_outputs(exported: Path, tiny_run: Path) -> None:
    description = json.loads((exported / "head.json").read_text())
    model = LargeUserModel.load(tiny_run / "runs/tiny/model")
    knowledge = json.loads((tiny_run / "runs/tiny/knowledge/knowledge.json").read_text())
    assert description["model"] == knowledge["model"]
    assert description["user_vectors"] == model.network.user_vector_names
    predicted = [output["name"] for output in description["outputs"]] + description["similarities"]
    assert [f"fresh.{name}" for name in predicted] == [
        name for name in knowledge["matched_names"] if name.startswith("fresh.")
    ]
    scenario = next(field for field in description["context"] if field["name"] == "scenario")
    for index, value in enumerate(scenario["values"], start=1):
        assert model.processor.conditions["scenario"].encode([value]) == [index]


def test_the_export_is_an_artefact_and_has_no_path_of_this_machine(exported: Path) -> None:
    assert verify(exported) == 4
    assert str(Path(torch.__file__).parent).encode() not in (exported / "head.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(exported / "head.onnx"), full_check=True)


def test_a_model_without_feedback_predictions_is_refused(tmp_path: Path) -> None:
    model = model_of(**KINDS["no feedback"])
    model.config = model.config.model_copy(update={"trained_on_feedback": False})
    with pytest.raises(InputError, match="not trained to predict feedback"):
        export_head(model, tmp_path / "head")
    assert list(tmp_path.glob("[!.]*")) == []


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_head, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match=r"needs onnxscript: run pip install 'openlum\[onnx\]'"):
        ol.export_head("model", tmp_path / "head")


def test_the_cost_at_the_default_widths_is_that_of_the_layers_and_within_the_limits() -> None:
    rating = FieldSpec(name="rating", type="categorical", size=8, feedback=True)
    network = model_of([*CONTEXT, rating], width=64, embedding_width=64, layers=1, heads=4).network
    vectors, head = len(network.user_vector_names), network.matching_head
    assert vectors == 16
    layers = [head.query, head.context, head.correction]
    layers += [layer for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    products = sum(layer.weight.numel() for layer in layers)
    products += vectors * (head.heads * KEY_WIDTH + 2 * 64)  # weights of the vectors, mixture and similarities
    assert flops_per_candidate(network) == 2 * products <= 150_000
    assert bytes_per_user(network) == 2048
