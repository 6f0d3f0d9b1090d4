"""Remake the pictures of the concept pages and the animated episodes in docs/images, from the models that ship.

    python scripts/pictures.py              # all; the episode of real models takes a minute or two
    python scripts/pictures.py profile      # those named

The animations need moviepy (the extra `test`), with which Gymnasium's RecordVideo writes its film.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import matplotlib
import numpy as np
import pandas as pd
from gymnasium.wrappers import RecordVideo
from matplotlib.figure import Figure
from PIL import Image

import read_env  # noqa: F401  (registers the environments)
from read_env.agents import make_agent
from read_env.reporting import style

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
TASK, STUDENT = "bookkeeper", "even"
#: Text stays text: small files that can be searched. Verdana is as wide as the font of the pictures.
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "read-env"}
_FONT, _FONTS = "'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif"


def episode(agent: str, seed: int = 0, student: str = STUDENT) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Episode of an agent on the surrogate: profiles and allocations by step, and the utility."""
    env = gym.make("ReadEnv/Surrogate-v0", task=TASK)
    played = make_agent(agent, env=env)
    observation, info = env.reset(seed=seed, options={"student": student, "world": 0})
    profiles, allocations, utilities, ended = [info["profile"]], [], [info["utility"]], False
    state = None
    while not ended:
        action, state = played.predict(observation, state, np.array([not allocations]), deterministic=True)
        before = observation
        observation, reward, ended, truncated, info = env.step(action)
        played.observe(before, action, float(reward), observation, ended, truncated, info)
        profiles.append(info["profile"])
        allocations.append(info["allocation"])
        utilities.append(info["utility"])
    names = list(env.unwrapped.suite.names)  # type: ignore[attr-defined]
    return pd.DataFrame(profiles, columns=names), pd.DataFrame(allocations, columns=names), np.array(utilities)


def world() -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Capabilities, requirement of the task, and starting profiles of the surrogate."""
    env = gym.make("ReadEnv/Surrogate-v0", task=TASK).unwrapped
    return list(env.suite.names), env.requirement, dict(env.surrogate.starts)  # type: ignore[attr-defined]


def allocation() -> Figure:
    """Allocations of three agents over the same budget."""
    agents = {"uniform": "uniform", "task-static": "w = r", "pretrained:micro": "pretrained:micro"}
    picture, grid = style.panels(agents, 3, height=2.9, sharey=True)
    for axes, agent in grid:
        _, shares, utilities = episode(agent)
        style.stacked_allocation(axes, np.arange(len(shares) + 1) * 2_400.0, shares, 24_000)
        axes.set(title=f"{agents[agent]}: utility {utilities[-1] - utilities[0]:+.2f}")
    grid[0][0].set(ylabel="share of the step's tokens")
    picture.legend(handles=style.capability_handles(shares.columns)[::-1], loc="outside right upper")
    return picture


def profile() -> Figure:
    """Profile of the student before and after an episode, with the needs of the task."""
    names, requirement, _ = world()
    profiles, _, _ = episode("pretrained:micro")
    scores = pd.concat(
        pd.DataFrame({"path": "", "capability": names, "requirement": requirement, "probe": row})
        for row in (profiles.iloc[0].to_numpy(), profiles.iloc[-1].to_numpy())
    )
    picture, [(axes, _)] = style.panels([TASK], 1, 7.0, 3.4)
    handles = style.before_after(axes, scores, "probe", style.AFTER)
    axes.set(title=f"Profile of the student, task {TASK}", xlabel="probe score")
    picture.legend(handles=handles, loc="outside right upper")
    return picture


def spillover() -> Figure:
    """Change of all scores while all tokens go to one capability."""
    names, _, _ = world()
    env = gym.make("ReadEnv/Surrogate-v0", task=TASK)
    source = "general_knowledge"
    weights = np.array([float(name == source) for name in names])
    changes = []
    for seed in range(20):
        _, info = env.reset(seed=seed, options={"student": STUDENT})
        start, ended = info["profile"], False
        while not ended:
            *_, ended, _, info = env.step(weights)
        changes.append(info["profile"] - start)
    change = pd.Series(np.mean(changes, axis=0), names).sort_values()
    picture, [(axes, _)] = style.panels([source], 1, 7.0, 3.0)
    colours = [style.AFTER if value > 0 else style.HARM for value in change]
    axes.barh([style.readable(name) for name in change.index], change, color=colours)
    axes.bar_label(axes.containers[0], fmt="%+.2f", padding=3, fontsize=8)  # type: ignore[arg-type]
    axes.axvline(0, color=style.INK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.set(title=f"All 24,000 tokens on {style.readable(source)}", xlabel="change of the probe score")
    return picture


def students() -> Figure:
    """Profiles of some starting students."""
    names, _, starts = world()
    shown = ("even", "clerk", "linguist", "archivist")
    picture, grid = style.panels(shown, 4, height=2.9, sharey=True)
    for axes, name in grid:
        axes.barh([style.readable(one) for one in names], starts[name], color=style.AFTER)
        axes.set(title=name, xlabel="probe score", xlim=(0, 1))
    grid[0][0].invert_yaxis()
    return picture


def splits() -> Figure:
    """Shares of the prompts in the splits, and who sees each."""
    parts = {
        "training stream": (25, "the student is trained on it", style.AFTER),
        "probes": (2, "agents see the scores", style.NEED),
        "dev": (2, "selection", style.MUTED),
        "exam": (3, "final report only", style.INK),
    }
    picture, [(axes, _)] = style.panels(["splits"], 1, 9.0, 1.7)
    left = 0
    for row, (name, (size, text, colour)) in enumerate(parts.items()):
        axes.barh(0, size, left=left, color=colour, height=0.5, edgecolor="white")
        if row == 0:
            axes.text(left + size / 2, 0, f"{name}: {text}", ha="center", va="center", color="white")
        else:
            axes.annotate(
                f"{name}: {text}", (left + size / 2, 0.25), (24.5, 0.2 + 0.38 * row), fontsize=9, ha="right",
                va="center", arrowprops={"arrowstyle": "-", "color": style.MUTED},
            )  # fmt: skip
        left += size
    axes.set(
        xlim=(0, 32), ylim=(-0.35, 1.5), yticks=[], xticks=[0, 25, 27, 29, 32], xlabel="hash of the prompt, modulo 32"
    )
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    return picture


def budget() -> Figure:
    """Tokens of one run: what counts against B, and what is counted apart."""
    _, shares, _ = episode("pretrained:micro")
    ends = np.arange(len(shares) + 1) * 2_400
    picture, [(axes, _)] = style.panels(["budget"], 1, 9.0, 2.2)
    for step in range(len(shares)):
        axes.barh(0, 2_400, left=ends[step], color=style.AFTER, edgecolor="white", height=0.5)
        axes.text(ends[step] + 1_200, 0, f"step {step + 1}", ha="center", va="center", color="white", fontsize=8)
        axes.plot(ends[step + 1], 0.42, "v", color=style.NEED, markersize=6, clip_on=False)
    axes.plot(0, 0.42, "v", color=style.NEED, markersize=6, clip_on=False, label="probes: counted apart")
    for place in (0, 24_000):
        axes.plot(
            place,
            0.62,
            "D",
            color=style.INK,
            markersize=6,
            clip_on=False,
            label="exam: counted apart" if place else None,
        )
    style.token_axis(axes, 24_000, "completion tokens of the teacher that the student was trained on, B = 24,000")
    axes.set(ylim=(-0.35, 0.8), yticks=[])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    picture.legend(loc="outside upper right", ncols=2)
    return picture


def film(environment: str, agent: str, path: Path) -> None:
    """Animated picture of an episode, from the frames that RecordVideo records."""
    env = gym.make(environment, task=TASK, render_mode="rgb_array")
    played = make_agent(agent, env=env)
    with tempfile.TemporaryDirectory() as folder:
        video = RecordVideo(env, f"{folder}/film", episode_trigger=lambda number: True, disable_logger=True)
        observation, _ = video.reset(seed=0, options={"student": STUDENT})
        frames, state, ended = video.recorded_frames, None, False
        while not ended:
            action, state = played.predict(observation, state, np.array([len(frames) == 1]), deterministic=True)
            observation, _, ended, _, _ = video.step(action)
        video.close()
        assert list(Path(folder).rglob("*.mp4")), "RecordVideo wrote no film"
    small = [Image.fromarray(frame).resize((840, 480), Image.Resampling.LANCZOS) for frame in frames]
    palette = small[-1].quantize(64, dither=Image.Dither.NONE)
    pictures = [one.quantize(64, palette=palette, dither=Image.Dither.NONE) for one in small]
    # Once, and then the last picture: an endless animation distracts from the text beside it.
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[900] * len(pictures), optimize=True)


DRAWN: dict[str, Callable[[], Figure]] = {
    one.__name__: one for one in (allocation, budget, profile, spillover, splits, students)
}
FILMS = {"episode-surrogate": "ReadEnv/Surrogate-v0", "episode-distillation": "ReadEnv/Distillation-v0"}


@style.look()
def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*DRAWN, *FILMS, []], default=[])
    names = parser.parse_args().names or [*DRAWN, *FILMS]
    for name in names:
        if name in DRAWN:
            path = IMAGES / f"{name}.svg"
            with matplotlib.rc_context(_SVG):
                DRAWN[name]().savefig(path, metadata={"Date": None, "Creator": None})
            path.write_text(path.read_text(encoding="utf-8").replace(_FONT, _FONTS), encoding="utf-8")
        else:
            path = IMAGES / f"{name}.gif"
            film(FILMS[name], "pretrained:micro", path)
        print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
