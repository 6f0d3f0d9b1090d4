"""Picture of an episode so far: profile at the start and now, allocation and utility over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from read_env.envs.episode import Point
from read_env.reporting import style

if TYPE_CHECKING:
    from read_env.tasks import TaskCard

#: Height and width of every picture, pixels.
SHAPE = (640, 1120, 3)
_DPI = 100


@style.look()
def render_episode(
    names: Sequence[str], card: TaskCard, requirement: np.ndarray, trace: Sequence[Point], total: int
) -> np.ndarray:
    """Draw the episode with the panels of the reports.

    Args:
        names: |C| capability names.
        card: the task.
        requirement: (|C|,) requirement; needed capabilities are marked, with their weight.
        trace: points of the start and of every finished step.
        total: B, completion tokens.

    Returns:
        RGB picture, :data:`SHAPE` uint8.
    """
    start, now = trace[0], trace[-1]
    picture = Figure(figsize=(SHAPE[1] / _DPI, SHAPE[0] / _DPI), dpi=_DPI, layout="constrained")
    # Without pyplot, whose figures are global, live until closed, and choose a window system.
    canvas = FigureCanvasAgg(picture)
    axes = picture.subplot_mosaic([["profile", "allocation"], ["profile", "utility"]])
    picture.suptitle(
        f"task {card.name}   ·   step {len(trace) - 1}   ·   {now.spent:,} of {total:,} completion tokens   ·   "
        f"utility {now.utility:.3f} ({now.utility - start.utility:+.3f}, {card.utility_form.replace('_', ' ')})"
    )
    scores = pd.concat(
        pd.DataFrame({"path": "", "capability": names, "requirement": requirement, "probe": point.profile})
        for point in (start, now)
    )
    handles = style.before_after(axes["profile"], scores, "probe", style.AFTER)
    axes["profile"].set(title="Capability profile", xlabel="probe score")
    axes["profile"].legend(handles=handles, loc="lower right")
    shares = pd.DataFrame([point.allocation for point in trace[1:]], columns=list(names))
    if len(shares):
        style.stacked_allocation(axes["allocation"], np.array([point.spent for point in trace]), shares, total)
    axes["allocation"].set(title="Allocation", ylabel="share of tokens")
    axes["allocation"].legend(handles=style.capability_handles(names), loc="upper left", bbox_to_anchor=(1, 1))
    axes["utility"].plot([point.spent for point in trace], [point.utility for point in trace], "o-", color=style.AFTER)
    axes["utility"].set(title="Utility", ylabel="U")
    axes["utility"].grid(axis="y")
    style.token_axis(axes["utility"], total)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
