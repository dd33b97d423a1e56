"""How the results of engines differ on the same images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from batchdigit.bench.measurement import Parity, Setting
from batchdigit.bench.measuring.probes import Outcomes


def parity_of(
    name: str, engines: Mapping[str, Setting], outcomes: Mapping[str, Outcomes]
) -> Parity | None:
    """The engine called ``name`` against the reference, None where it has no outcomes.

    The reference is PyTorch in single precision on the CPU, which is what a plain loop does, or the
    engine that comes nearest to it among those that were measured.
    """
    if name not in outcomes:
        return None
    candidates = [setting for engine, setting in engines.items() if engine in outcomes]
    reference = min(candidates, key=_distance)
    ours, theirs = outcomes[name], outcomes[reference.engine]
    same = ours.labels == theirs.labels
    differences = np.abs(ours.probs - theirs.probs)[same]
    return Parity(
        reference.engine,
        images=len(same),
        flips=int(np.count_nonzero(~same)),
        difference=float(differences.max(initial=0.0)),
    )


def _distance(setting: Setting) -> tuple[bool, bool, bool]:
    """How far an engine is from the plain loop."""
    return setting.precision != "fp32", setting.device != "cpu", setting.backend != "torch"
