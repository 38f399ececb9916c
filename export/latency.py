"""Latency of several models on every backend that is here, measured interleaved in one run."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge.bundle.admission import present
from edge.engines import open_engine
from export.backends import taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

ROUNDS, BLOCK_S = 15, 0.004


def latencies_ms(
    models: Mapping[str, bytes], inputs: Mapping[str, NDArray[np.float32]]
) -> dict[str, dict[str, float]]:
    """`[backend][name]` median time of one run, batch 1, one thread; a model that a backend refuses
    is left out. `inputs` are those of one run by name, without batch axis."""
    runs = {}
    with ExitStack() as stack:
        for backend in present():
            for name in taken(backend, models):
                engine = stack.enter_context(open_engine(backend, models[name], name))
                for key, x in inputs.items():
                    engine.inputs[key][0] = x
                runs[backend, name] = engine.run
        return _measured(runs)


def _measured(runs: Mapping[tuple[str, str], object]) -> dict[str, dict[str, float]]:
    took: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for round_ in range(ROUNDS + 1):
        for key, run in runs.items():
            run()  # type: ignore[operator]  # brings back what the others drove from the caches
            start, count = time.perf_counter(), 0
            while (now := time.perf_counter()) - start < BLOCK_S or not count:
                run()  # type: ignore[operator]
                count += 1
            if round_:  # the first warms up
                took[key].append((now - start) / count)
    found: dict[str, dict[str, float]] = {}
    for (backend, name), values in took.items():
        found.setdefault(backend, {})[name] = round(statistics.median(values) * 1e3, 4)
    return found
