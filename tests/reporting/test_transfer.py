import json

import numpy as np
import pytest
from scipy import stats
from synthetic_records import SUITE, write_run, write_transfer

from read_env.record_files import RecordError
from read_env.reporting import transfer_report
from read_env.reporting.statistics import holm
from read_env.reporting.transfer import load_transfer, matrices

BUDGETS = (12_000, 24_000)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_transfer(tmp_path_factory.mktemp("transfer") / "t", BUDGETS, range(4))


@pytest.fixture(scope="module")
def result(directory):
    return load_transfer(directory)


def test_the_matrix_is_the_change_of_the_exam(directory, result):
    assert (result.budgets, result.seeds) == (BUDGETS, (0, 1, 2, 3))
    changes = []
    for seed in range(4):
        folder = directory / "runs" / f"one-hot-math__seed{seed}"
        step = json.loads((folder / "steps.jsonl").read_text().splitlines()[1])  # step 2 ends at 12,000 tokens
        changes.append(np.array(step["exam"]) - json.loads((folder / "start.json").read_text())["exam"])
    row, found, off = SUITE.index("math"), result.matrices["exam"][0], ~np.eye(10, dtype=bool)
    assert found.mean[row] == pytest.approx(np.mean(changes, axis=0))
    assert found.sd[row] == pytest.approx(np.std(changes, axis=0, ddof=1))
    assert found.p[row, 0] == pytest.approx(stats.ttest_1samp([change[0] for change in changes], 0).pvalue)
    # Holm over the off-diagonal entries of one matrix.
    assert np.isnan(np.diag(found.p_holm)).all()
    assert found.p_holm[off] == pytest.approx(holm(found.p[off]))


def test_survivors_need_size_sign_and_significance():
    # Two capabilities, four seeds: a large sure drop off the diagonal, and a sure but small rise.
    noise = np.array([-1, 1, -1, 1]) * 1e-4
    changes = np.zeros((2, 4, 2))
    changes[0, :, 1], changes[1, :, 0] = -0.1 + noise, 0.01 + noise
    changes[0, :, 0] = changes[1, :, 1] = 0.3 + noise
    [found] = matrices([1000], changes[None], np.eye(2, dtype=bool))
    assert found.survivors(-1).tolist() == [[False, True], [False, False]]
    assert not found.survivors(+1).any()
    assert found.significant.sum() == 2


def test_waste_by_hand():
    changes = np.zeros((2, 2, 1, 2))  # budgets, sources, seeds, capabilities
    changes[0, 0, 0], changes[0, 1, 0] = [0.2, -0.1], [0.0, 0.4]
    changes[1, 0, 0], changes[1, 1, 0] = [0.3, -0.3], [0.1, 0.5]
    first, second = matrices([10_000, 30_000], changes, np.eye(2, dtype=bool))
    assert first.marginal_gain.mean == pytest.approx(0.3)  # 0.3 in 10k tokens
    assert second.marginal_gain.mean == pytest.approx(0.05)  # another 0.1 in 20k
    assert [first.negative_spillover.mean, second.negative_spillover.mean] == pytest.approx([0.05, 0.15])


def test_the_report_has_matrices_counts_and_waste(directory, result):
    page = transfer_report(directory).read_text()
    assert "One-hot runs on 10 capabilities, 4 seeds (0, 1, 2, 3), budgets 12,000, 24,000" in page
    assert "0 – 12,000" in page and "12,000 – 24,000" in page
    for name in ("transfer_exam.png", "transfer_probe.png", "waste.png"):
        assert (directory / name).exists() and name in page
    value = json.loads((directory / "transfer.json").read_text())
    for measure, entries in result.matrices.items():
        for found in entries:
            entry = value["matrices"][measure][str(found.budget)]
            assert np.array(entry["mean"]) == pytest.approx(found.mean)
            assert entry["p_holm"][0][0] is None
            counts = [len(entry["survivors"][sign]) for sign in ("negative", "positive")]
            assert counts == [found.survivors(-1).sum(), found.survivors(+1).sum()]
            row = [measure, f"{found.budget:,}", *map(str, counts)]
            assert row in [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]


def test_a_seed_that_lacks_a_source_is_left_out_and_named(tmp_path, no_pictures):
    path = write_transfer(tmp_path / "t", (6_000,), range(3))
    (path / "runs" / "one-hot-code__seed1" / "summary.json").unlink()
    page = transfer_report(path).read_text()
    assert "one-hot-code__seed1: unfinished" in page
    assert "2 seeds (0, 2)" in page
    assert "seeds 1." in page


def test_some_sources_give_some_rows(tmp_path):
    path = tmp_path / "t"
    for name in ("math", "code"):
        for seed in range(3):
            folder = path / "runs" / f"one-hot-{name}__seed{seed}"
            write_run(folder, f"one-hot-{name}", seed=seed, steps=2, exam_steps=(1, 2))
    found = load_transfer(path)
    assert found.sources == ("math", "code")
    assert found.budgets == (6_000, 12_000)  # from the steps, where no configuration says
    assert found.matrices["exam"][0].mean.shape == (2, 10)
    assert "One-hot runs on 2 of 10 capabilities" in transfer_report(path).read_text()


def test_what_gives_no_matrix(tmp_path):
    path = write_transfer(tmp_path / "t", (12_000, 60_000), range(1))
    (path / "config.json").write_text('{"budgets": [30000]}')
    with pytest.raises(RecordError, match=r"steps.jsonl: no step near 30,000 completion tokens has an exam"):
        load_transfer(path)
    (path / "runs" / "one-hot-code__seed0" / "summary.json").unlink()
    with pytest.raises(RecordError, match="9 of 10 runs are finished"):
        load_transfer(path)
