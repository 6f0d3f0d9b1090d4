"""Files in several formats and data sets of the ``datasets`` library, for capabilities and evaluation files alike."""

import csv
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from read_env.capabilities import get_suite
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.from_file import capability_from_file
from read_env.capabilities.sources import is_there, parse_source, read_rows, source_digest
from read_env.config import load_preset
from read_env.errors import ReadEnvError

ROWS = [{"prompt": f"what is {a}+{a}, twice", "answer": str(2 * a)} for a in range(40)]
RENAMED = [{"frage": row["prompt"], "prompt": "no", "antwort": row["answer"]} for row in ROWS]
MAPPED = "?prompt=frage&answer=antwort"


def write(path, rows):
    """Rows in the format of the path's suffix."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts_of(source):
    return {(p.text, p.reference) for p in capability_from_file(source, "own").prompts}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_prompts(tmp_path, suffix):
    plain, mapped = write(tmp_path / f"a{suffix}", ROWS), write(tmp_path / f"b{suffix}", RENAMED)
    expected = {(row["prompt"], f"Answer: {row['answer']}") for row in ROWS}
    assert prompts_of(plain) == prompts_of(f"{mapped}{MAPPED}") == expected
    assert evaluation_hashes([plain]) == evaluation_hashes([f"{mapped}{MAPPED}"])
    assert get_suite(f"own={mapped}{MAPPED}").names == ("own",)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """Data set in the hub's layout: a card with a configuration, and Parquet files by split."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "gsm"
    for split, rows in (("train", RENAMED), ("test", RENAMED[:20])):
        where = folder / "main" / f"{split}-00000-of-00001.parquet"
        where.parent.mkdir(parents=True, exist_ok=True)
        write(where, rows)
    files = "".join(f"  - split: {s}\n    path: main/{s}-*.parquet\n" for s in ("train", "test"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n# Sums\n")
    return folder


def test_a_folder_in_the_hubs_layout(hub_folder, tmp_path):
    source = f"hf:{hub_folder}{MAPPED}"
    assert prompts_of(f"{source}&split=train&name=main") == {(r["prompt"], f"Answer: {r['answer']}") for r in ROWS}
    assert len(list(read_rows(f"{source}&split=test"))) == 20
    with pytest.raises(ReadEnvError, match=r"name one of its splits: hf:.*\?split=train, hf:.*\?split=test"):
        list(read_rows(source))
    with pytest.raises(ReadEnvError, match="can't be loaded by datasets"):
        list(read_rows(f"{source}&split=dev"))
    with pytest.raises(ReadEnvError, match="no such folder"):
        list(read_rows(f"hf:{tmp_path}/none?split=train"))
    before = source_digest(f"{source}&split=train")
    assert before != source_digest(f"{source}&split=test")


def test_a_digest_follows_the_rows(tmp_path):
    path = write(tmp_path / "a.csv", RENAMED)
    before = source_digest(f"{path}{MAPPED}")
    assert before == source_digest(f"{path}{MAPPED}") != source_digest(f"{path}?prompt=antwort")
    write(path, RENAMED[1:])
    assert source_digest(f"{path}{MAPPED}") != before


def test_columns_that_a_source_names_come_first(tmp_path):
    path = write(tmp_path / "a.jsonl", RENAMED)
    _, number, fields = next(read_rows(f"{path}?prompt=frage"))
    assert number == 1 and fields == {"prompt": ROWS[0]["prompt"], "antwort": "0"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?prompt=question", r"no column 'question' for 'prompt'; it has frage, prompt, antwort"),
        ("?promt=frage", r"option of the source .*'promt'.*did you mean 'prompt'"),
        ("?prompt=", r"'prompt=' should read prompt=VALUE, once"),
        ("?prompt=frage&prompt=antwort", "once"),
        ("?split=train", "option of the source"),
    ],
)
def test_wrong_options_are_named(tmp_path, query, message):
    path = write(tmp_path / "a.jsonl", RENAMED)
    with pytest.raises(ReadEnvError, match=message):
        list(read_rows(f"{path}{query}"))


def test_a_file_whose_name_has_a_question_mark(tmp_path):
    path = write(tmp_path / "why?.jsonl", ROWS)
    assert parse_source(path).path == str(path) and len(list(read_rows(path))) == len(ROWS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty; its first line must name the columns"),
        ("a.csv", b"prompt,prompt\n1,2\n", "column 'prompt' occurs twice"),
        ("a.csv", b"prompt,answer\n2,3,5\n", "row 1: has more or fewer cells than the 2 columns"),
        ("a.csv", b"prompt,answer\n2\n", "row 1: has more or fewer cells than the 2 columns"),
        ("a.csv", b'prompt,answer\n"2,3\n', "is no CSV"),
        ("a.csv", b"prompt,answer\n,3\n", "field 'prompt' is missing"),
        ("a.csv", b"prompt,answer\n2,3\n3,\n", "line 2: field 'answer' is missing, and line 1 has one"),
        ("a.csv", "prompt,answer\nä,3\n".encode("latin-1"), "line 2: byte 0 .* is not UTF-8"),
        ("a.csv", b"PAR1", "is a Parquet file; give a CSV file"),
        ("a.json", b"[1]", "entry 1: 1 is no JSON object"),
        ("a.json", b"[", "is no JSON"),
        ("a.parquet", b"PAR2", "can't be read as Parquet"),
        ("a.parquet", None, "can't be read as Parquet"),
        ("a.csv", None, "can't be read .*give the path of a CSV file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReadEnvError, match=message) as refused:
        capability_from_file(path, "own")
    assert name in str(refused.value) and "\n" not in str(refused.value)


@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "json", "parquet"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path, content, suffix):
    path = tmp_path / f"own.{suffix}"
    path.write_bytes(content)
    try:
        list(read_rows(path))
    except ReadEnvError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_an_empty_cell_of_a_named_column_is_a_missing_value(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("frage,antwort\n1+1,2\n2+2,\n")
    with pytest.raises(ReadEnvError, match="line 2: field 'answer' is missing, and line 1 has one"):
        capability_from_file(f"{path}{MAPPED}", "own")


def test_a_cell_may_hold_commas_and_line_breaks(tmp_path):
    rows = [{"prompt": f'say "{i}",\ntwice', "answer": f"{i}, {i}", "difficulty": i / 40} for i in range(40)]
    path = write(tmp_path / "a.csv", rows)
    assert {p.text for p in capability_from_file(path, "own").prompts} == {row["prompt"] for row in rows}


def test_a_preset_joins_paths_of_sources_to_its_folder(tmp_path):
    preset = tmp_path / "own.toml"
    preset.write_text('suite = "micro,own=a.csv?prompt=frage,more=hf:org/name?split=train"\ntask = "math"\n')
    write(tmp_path / "a.csv", RENAMED)
    assert load_preset(str(preset)).suite == f"micro,own={tmp_path}/a.csv?prompt=frage,more=hf:org/name?split=train"


def test_a_data_set_of_the_hub_may_be_there():
    assert is_there("hf:org/name?split=train") and not is_there("hf:./none") and not is_there("none.csv")


def test_the_answers_of_gsm8k_are_completions(tmp_path):
    steps = "Half of 48 is 48/2=<<48/2=24>>24 clips.\nBoth are 48+24=<<48+24=72>>72 clips."
    rows = [{"question": f"{i} clips?", "answer": f"{steps}\n#### {i},072"} for i in range(1, 41)]
    capability = capability_from_file(f"{write(tmp_path / 'a.jsonl', rows)}?prompt=question&answer=answer", "own")
    prompt = next(p for p in capability.prompts if p.text == "7 clips?")
    assert prompt.reference == "Half of 48 is 48/2=24 clips.\nBoth are 48+24=72 clips.\nAnswer: 7,072"
    assert capability.graded and capability.verify(prompt, "It is 7072.") and not capability.verify(prompt, "72")
