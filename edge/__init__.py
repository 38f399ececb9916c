"""medge at the bedside: samples in, diagnoses or a clear "no answer" out.

`edge.open(bundle)` gives the pipeline that the daemon, the replayer and the benchmark run too.
Importing this package loads nothing heavy and starts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.types import Diagnosis, SourceLost, Waveform, Withheld

if TYPE_CHECKING:
    from pathlib import Path

    from edge.pipeline.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Diagnosis", "SourceLost", "Waveform", "Withheld", "__version__", "open"]


def open(
    bundle: str | Path,
    *,
    state_dir: str | Path,
    bed: str = "unassigned",
    trusted_keys: tuple[str | Path, ...] = (),
) -> Pipeline:
    """Open `bundle` for use in this process; use it as a context manager.

    `bundle` is a directory, a stored zip, or the name of a reference bundle. `state_dir` keeps the
    admission (which backend and precision passed here). Feed it `edge.types.Waveform` blocks:
    `for result in pipeline.feed(block)` gives `Diagnosis` and `Withheld` values in time order.
    Raises `StartError` when the bundle is refused.
    """
    from edge.pipeline.pipeline import open_pipeline

    return open_pipeline(bundle, state_dir=state_dir, bed=bed, trusted_keys=trusted_keys)
