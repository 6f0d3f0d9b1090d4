"""The wheel holds the package, the whole package and nothing but the package.

An editable install reads from the checkout and so hides a package or a data
file that ``pyproject.toml`` forgets. Here the wheel is built from a copy of the
checkout, compared with it file by file, installed elsewhere and used there.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Folder here -> folder in the wheel; the counterpart of pyproject's package-dir.
MAPPING = {"read_env": "read_env", "agents": "read_env/agents", "envs": "read_env/envs"}
METADATA = ["pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]
#: Files at the top of the source archive beside METADATA.
INCLUDED = ["CHANGELOG.md", "CITATION.cff", "SECURITY.md", "constraints.txt"]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, run without this checkout on its path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built: an old ``build/lib`` of the checkout would leak into the wheel."""
    source = tmp_path_factory.mktemp("source")
    for folder in MAPPING:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "test_something.py").touch()
    for name in METADATA + INCLUDED:
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def source_archive(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, built without network."""
    dist = tmp_path_factory.mktemp("archive")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(dist)!r})"
    run(sys.executable, "-c", code, cwd=source)
    (built,) = dist.glob("read_env-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(source_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from the source archive alone."""
    unpacked, dist = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("dist")
    with tarfile.open(source_archive) as archive:
        archive.extractall(unpacked)
    (source,) = unpacked.iterdir()
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", dist]
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=dist)
    (built,) = dist.glob("read_env-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment: the wheel, and the third-party packages of this one.

    Those come in by a ``.pth`` file that appends this environment's
    site-packages. Nested ``.pth`` files are not followed, so the editable
    install of the checkout stays behind.
    """
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", with_pip=False, symlinks=os.name != "nt")
    python = home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home))
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "third_party.pth").write_text("".join(f"{path}\n" for path in sorted(shared)))
    options = ["--no-deps", "--no-index", "--ignore-installed", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=home)
    return python


def test_wheel_and_tree_hold_the_same_files(wheel: Path) -> None:
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in MAPPING.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    packed = {name for name in names if ".dist-info/" not in name}
    assert sorted(expected - packed) == [], "in the tree, but pyproject.toml leaves it out of the wheel"
    assert sorted(packed - expected) == [], "in the wheel, but not in the tree"
    assert "read_env/py.typed" in packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_source_archive_holds_what_is_built_and_no_part_of_the_tests(source_archive: Path) -> None:
    with tarfile.open(source_archive) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    packed = {name for name in names if not name.startswith("read_env.egg-info/")}
    expected = {
        path.relative_to(ROOT).as_posix()
        for folder in MAPPING
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected | {*METADATA, *INCLUDED, "PKG-INFO", "setup.cfg"}


def test_everything_that_is_imported_is_declared() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in [*project["dependencies"], *extras]}
    # What the core needs must not hide among the extras: those are asked for by name, where they are used.
    core = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in project["dependencies"]}
    core |= {"markdown_it"} if "markdown_it_py" in core else set()  # imported by another name than installed
    imported = set()
    for folder in MAPPING:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"read_env"}
    optional = {
        "datasets",
        "evaluate",
        "lightgbm",
        "lm_eval",
        "minari",
        "openai",
        "pyarrow",
        "ray",
        "sentence_transformers",
    }
    assert foreign - core <= optional | {"typing_extensions"} and core | optional <= declared | {"markdown_it"}
    assert {"torch", "transformers", "gymnasium"} <= foreign


def test_installed_package_is_found_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import read_env, read_env.agents as a; print(read_env.__file__, a.__file__)"
    for found in run(installed, "-c", code, cwd=tmp_path).split():
        assert Path(found).is_relative_to(installed.parent.parent)


@pytest.mark.parametrize(
    ("imports", "env_id"),
    [("gymnasium, read_env", "ReadEnv/Distillation-v0"), ("gymnasium", "read_env:ReadEnv/Distillation-v0")],
)
def test_installed_environment_takes_a_step(installed: Path, tmp_path: Path, imports: str, env_id: str) -> None:
    code = f"""if True:
        import {imports}
        env = gymnasium.make("{env_id}")
        env.reset(seed=0)
        env.action_space.seed(0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observation in env.observation_space
        print(type(reward).__name__)
    """
    assert run(installed, "-c", code, cwd=tmp_path).splitlines()[-1] == "float"


def test_installed_command_answers(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("read-env" + installed.suffix)
    assert "compare" in run(command, "--help", cwd=tmp_path)
