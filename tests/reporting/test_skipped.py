"""Prompts that were skipped, in the reports of a run and of a comparison."""

import json

from synthetic_records import write_comparison

from read_env import load_steps
from read_env.reporting import comparison_report, run_report


def test_reports_count_and_name_skipped_prompts(tmp_path, no_pictures):
    path = write_comparison(tmp_path / "c", ("read-bandit", "task-static"), seeds=range(2), steps=3)
    assert "skipped" not in comparison_report(path).read_text()
    run = path / "runs" / "task-static__tickets__seed1"
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    steps[1]["skipped"] = [
        {"capability": "math", "prompt": f"say |{i}|", "reason": "content_filter"} for i in range(23)
    ]
    (run / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert load_steps(run)["skipped"].fillna(0).tolist() == [0, 0, 23, 0]
    page = comparison_report(path).read_text()
    assert "23 prompts without an example for the student, skipped without cost, in 1 run;" in page
    page = run_report(run).read_text()
    assert "23 prompts without an example for the student, skipped without cost, the first 20 of them here" in page
    assert "say \\|19\\|" in page and "say \\|20\\|" not in page
