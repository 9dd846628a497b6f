"""The formats of exported models: how each is written, and how its own runtime computes it."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.runs.exporting.module import LOGITS, Signature
from pipeline.types import Array

OPSET = 17
"""The first with layer normalisation."""
META = "signcache"
"""The entry of a file's metadata that says classes and stages, as JSON."""
Runner: TypeAlias = Callable[[list[Array]], Array]
"""What goes in, as `Signature` has it -> `(B, K)` logits."""


@dataclass(frozen=True)
class Format:
    """`write(network, signature, metadata, file, half, quantize)` and `open(file)`."""

    write: Callable[[nn.Module, Signature, Mapping[str, Any], Path, bool, str | None], None]
    open: Callable[[Path], Runner]


def _write_onnx(network: nn.Module, signature: Signature, said: Mapping[str, Any], file: Path, half: bool, quantize: str | None) -> None:
    onnx = _needed("onnx", "onnx")
    with _traced():
        torch.onnx.export(
            network,
            signature.example(),
            str(file),
            dynamo=False,  # the newer exporter writes an LSTM as a loop over its rows, and takes half a minute for what takes a second
            opset_version=OPSET,
            input_names=signature.names,
            output_names=[LOGITS],
            dynamic_axes=signature.axes,
            do_constant_folding=not half,  # folded, the weights would be float32 again
        )
    if quantize:
        _quantize(file)
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {META: json.dumps(said)})
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def _quantize(file: Path) -> None:
    """Weights of matrix products and LSTMs as int8 with a scale, in place; what flows through stays float32 between them."""
    quantization = _needed("onnxruntime.quantization", "onnxruntime")
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        whole = Path(scratch) / "whole.onnx"
        _needed("onnxruntime.quantization.shape_inference", "onnxruntime").quant_pre_process(
            str(file), str(whole), skip_symbolic_shape=True
        )
        kind = quantization.QuantType.QInt8
        quantization.quantize_dynamic(str(whole), str(file), op_types_to_quantize=["MatMul", "Gemm", "LSTM"], weight_type=kind)


def _open_onnx(file: Path) -> Runner:
    runtime = _needed("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    known = [each.name for each in session.get_inputs()]

    def run(given: list[Array]) -> Array:
        names = [name for stage in json.loads(session.get_modelmeta().custom_metadata_map[META])["inputs"] for name in stage]
        logits: Array = session.run([LOGITS], {name: values for name, values in zip(names, given, strict=True) if name in known})[0]
        return logits

    return run


def _write_torchscript(
    network: nn.Module, signature: Signature, said: Mapping[str, Any], file: Path, half: bool, quantize: str | None
) -> None:
    if quantize:
        raise UserError("--quantize int8 is made for ONNX Runtime; use --format onnx, or --half")
    with _traced():
        traced = torch.jit.trace(network, signature.example(), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(file), _extra_files={META: json.dumps(said)})


def _open_torchscript(file: Path) -> Runner:
    with _quiet():
        module = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

    def run(given: list[Array]) -> Array:
        with torch.inference_mode():
            logits: Array = module(*map(torch.from_numpy, given)).numpy()
        return logits

    return run


def _write_litert(*_: object) -> None:
    raise UserError(
        f"litert cannot be written here: its converter, litert-torch, is released for torch below 2.15, and this is {version('torch')}; "
        "use --format onnx, which runs on phones by ONNX Runtime"
    )


def _open_nothing(_: Path) -> Runner:
    raise NotImplementedError("nothing is written in this format")


FORMATS: Mapping[str, Format] = {
    "onnx": Format(_write_onnx, _open_onnx),
    "torchscript": Format(_write_torchscript, _open_torchscript),
    "litert": Format(_write_litert, _open_nothing),
}


def _needed(module: str, package: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--format onnx needs {package}, which is not installed; run: pip install 'signcache[export]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Both exporters warn that newer ones exist, and of every branch on a shape; what comes out is compared with the run instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _traced() -> Iterator[None]:
    """Attention computes by plain operations meanwhile: its fused one has no form elsewhere."""
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _quiet(), torch.inference_mode():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
