"""A torch module to the bytes of a clean ONNX file, and the check of a file against its source.

Owns the export and its traps. The first axis of every input and of the output is symbolic. Opset
and IR version are ones that TensorRT 10.3 and ONNX Runtime 1.20 read.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.collect import open_session
from edge.errors import BugError, StartError
from export.passes.leftovers import strip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 10
CONTROL_STEP = 0.3
"""Share of an input's spread by which the control moves it."""


def to_onnx(
    module: Any, inputs: Mapping[str, NDArray[np.float32]], outputs: Sequence[str]
) -> bytes:
    """Export `module(*inputs) -> outputs`, in their order.

    `inputs` are examples with at least two rows: a single one would be traced as a constant. Raises
    `StartError` where the exporter gives up."""
    import onnx
    import torch

    example = tuple(torch.from_numpy(x[:2]) for x in inputs.values())
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                module, example, dynamo=True, opset_version=OPSET, input_names=list(inputs),
                output_names=list(outputs), dynamic_shapes=tuple({0: batch} for _ in inputs),
                verbose=False,
            )  # fmt: skip
    except Exception as error:  # the exporter wraps whatever went wrong in errors of its own
        first = " ".join(str(error).split())[:300]
        raise StartError(
            f"torch cannot export the module ({first})",
            "use operators that ONNX has, and no control flow that depends on data",
        ) from None
    data = io.BytesIO()
    program.save(data)
    model = onnx.load_from_string(data.getvalue())
    model.ir_version = IR_VERSION
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, and warns of what only its own makers can mend."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def joined(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All outputs side by side, `[b, values]`."""
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in outputs], 1)


def largest_difference(
    data: bytes, source: Callable[[Any], NDArray[np.float32]],
    inputs: Mapping[str, NDArray[np.float32]], outputs: Sequence[str],
) -> float:  # fmt: skip
    """Largest absolute difference between the file's `outputs` in ONNX Runtime and the joined ones
    of `source(inputs)`."""
    found = joined(open_session(data).run(list(outputs), dict(inputs)))
    return float(np.abs(found - source(inputs)).max())


def require_same(
    data: bytes, source: Callable[[Any], NDArray[np.float32]],
    inputs: Mapping[str, NDArray[np.float32]], outputs: Sequence[str], bound: float,
) -> float:  # fmt: skip
    """The largest difference, at most `bound`. Raises `BugError` where it is more, and where a
    changed input does not show in it."""
    difference = largest_difference(data, source, inputs, outputs)
    if not difference <= bound:
        raise BugError(f"the exported file strays {difference:g} from the model", "mend the export")

    def changed(fed: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        return source({name: _moved(x, i) for i, (name, x) in enumerate(fed.items())})

    if largest_difference(data, changed, inputs, outputs) <= bound:
        raise BugError("the comparison does not see a changed input", "mend the comparison")
    return difference


def is_whole(x: NDArray[np.float32]) -> bool:
    """Whether every value is a whole number."""
    return bool(np.array_equal(x, np.rint(x)))


def _moved(x: NDArray[np.float32], i: int) -> NDArray[np.float32]:
    """Every other value of `x` moved by a share of the spread, so that no offset cancels it; whole
    numbers, which may be a vocabulary's, in reverse order."""
    if is_whole(x):
        return np.array(x[..., ::-1], order="C")
    step = np.float32(CONTROL_STEP * (i + 1) * (float(x.std()) or 1.0))
    sign = np.where(np.arange(x.size).reshape(x.shape) % 2, step, np.float32(0))
    return np.asarray(x + sign, np.float32)
