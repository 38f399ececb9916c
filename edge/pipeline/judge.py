"""A text or an image to what a bundle says of it: `medge infer` and the daemon's engine child.

Owns which stages a kind of bundle needs. Signals are `edge.pipeline.front`'s, rows of values
`edge.pipeline.course`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.bundle.integrity import VOCAB
from edge.errors import StartError
from edge.pipeline.postprocess import Told, told

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.bundle.load import Bundle
    from edge.engines import Engine

    Read = Callable[[bytes], "NDArray[np.float32] | Told"]


class Judge:
    """One bundle of texts or images on an engine that others may use too."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        kinds = {"text": _texts, "image": _images}
        if bundle.manifest.kind not in kinds:
            raise StartError(
                f"bundle '{bundle.name}' takes no text and no image", "choose a bundle that does"
            )
        self._engine = engine
        self._manifest = bundle.manifest
        self._advise: Callable[[bytes], Told] | None = None
        if bundle.manifest.output.tokens:
            from edge.text.advise import Advisor

            self._advise = Advisor(bundle, engine).advise
        else:
            self._read: Read = kinds[bundle.manifest.kind](bundle)

    def told(self, data: bytes) -> Told:
        """What it says of `data`, UTF-8 or an encoded image. Raises `StartError` for what is no
        image, or one of a quite other shape."""
        if self._advise is not None:
            return self._advise(data)
        tensor = self._read(data)
        if isinstance(tensor, Told):
            return tensor
        (declared,), output = self._manifest.inputs, self._manifest.output
        self._engine.inputs[declared.name][0] = tensor
        self._engine.run()
        return told(self._engine.outputs[output.name][0], output, 0, 0)


def _texts(bundle: Bundle) -> Read:
    from edge.text.encode import encode
    from edge.text.vocab import read_vocabulary

    how, (declared,) = bundle.manifest.text, bundle.manifest.inputs
    assert how is not None
    numbers = read_vocabulary(bundle.files[VOCAB]).numbers()

    def read(data: bytes) -> NDArray[np.float32] | Told:
        found = encode(data, how, numbers, declared.shape[0])
        return found.ids if found.reason is None else Told((), found.reason, found.detail)

    return read


def _images(bundle: Bundle) -> Read:
    from edge.vision.still import read_still

    (declared,) = bundle.manifest.inputs
    return lambda data: read_still(data, declared.shape)
