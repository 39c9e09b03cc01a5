"""What is installed is enough, and no more: the base install, each extra, the wheel, the sdist."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import (
    CHECKOUT,
    PACKAGES,
    build_sdist,
    build_wheel,
    copy_sources,
    environment,
)

# Prints the exit status of each command's and each group's --help.
ALL_HELP = """
from typer.main import get_command
from typer.testing import CliRunner
from deploy.commands.main import app

def walk(command, *path):
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from walk(each, *path, name)

for path in walk(get_command(app)):
    print(CliRunner().invoke(app, [*path, "--help"]).exit_code, *path)
"""


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of an environment with the base install."""
    return environment(tmp_path_factory.mktemp("base"), ["livegate"], wheel)


class TestBaseInstall:
    def test_it_is_a_camera_and_a_door(self, base: Path, tmp_path: Path) -> None:
        code = (
            "import sys, workers.client.camera, workers.client.door; "
            "print([m for m in ('ray', 'torch', 'pydantic', 'model') if m in sys.modules])"
        )
        done = run(base / "python", "-c", code, cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_the_packages_are_those_of_the_wheel(self, base: Path, tmp_path: Path) -> None:
        code = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({','.join(PACKAGES)})))"
        done = run(base / "python", "-c", code, cwd=tmp_path)
        assert all(Path(file).is_relative_to(base.parent) for file in done.stdout.split())

    def test_it_says_its_version(self, base: Path, tmp_path: Path) -> None:
        version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
        done = run(base / "livegate", "--version", cwd=tmp_path)
        assert done.stdout == f"livegate {version}\n"

    def test_all_help_is_there(self, base: Path, tmp_path: Path) -> None:
        done = run(base / "python", "-c", ALL_HELP, cwd=tmp_path)
        assert len(done.stdout.splitlines()) > 10, done.stderr
        assert [line for line in done.stdout.splitlines() if not line.startswith("0")] == []

    def test_a_terminal_needs_no_more(self, base: Path, tmp_path: Path, valkey_url: str) -> None:
        where = ("--redis", valkey_url, "--partitions", "2")
        run(base / "livegate", "keys", "add", "camera-1", cwd=tmp_path)
        key = ("--key-file", ".livegate/camera_keys.json")
        sent = run(base / "livegate", "camera", "--seconds", "0.1", *where, *key, cwd=tmp_path)
        assert "acknowledged 1" in sent.stdout, sent.stderr
        status = run(base / "livegate", "status", *where, cwd=tmp_path)
        assert "waiting" in status.stdout, status.stderr
        decisions = run(base / "livegate", "decisions", *where, cwd=tmp_path)
        assert (decisions.returncode, decisions.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("command", "extra"),
        [
            ("demo", "serve"),
            ("up", "serve"),
            ("render x", "render"),
            ("train a b c", "train"),
            ("evaluate a", "train"),
            ("calibrate a b", "train"),
            ("ablate a b c d", "train"),
            ("plan 100", "loadtest"),
            ("simulate", "loadtest"),
            ("loadtest run steady", "loadtest"),
            ("loadtest mlperf steady", "mlperf"),
        ],
    )
    def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
        self, base: Path, tmp_path: Path, command: str, extra: str
    ) -> None:
        done = run(base / "livegate", *command.split(), cwd=tmp_path)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert re.search(rf"{base.parent}/bin/python\S* -m pip install 'livegate\[{extra}\]'", line)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "command", "message"),
    [
        ("train", "train a.txt b.txt bundle", "a.txt"),
        ("train", "evaluate a.txt", "a.txt"),
        ("report", "evaluate a.txt --report page", "a.txt"),
        ("render", "render set --subjects 0 0 0", "subjects"),
        ("loadtest", "loadtest run gone.toml", "gone.toml: no such file"),
        ("loadtest", "loadtest run steady --redis redis://127.0.0.1:1", "is it running?"),
        ("loadtest", "plan 100 --within-ms 1", "nothing can keep that"),
    ],
)
def test_an_extra_is_all_that_its_commands_need(
    wheel: Path, tmp_path: Path, extra: str, command: str, message: str
) -> None:
    commands = environment(tmp_path / "env", [f"livegate[{extra}]"], wheel)
    done = run(commands / "livegate", *command.split(), cwd=tmp_path)
    assert "pip install" not in done.stderr
    assert "Traceback" not in done.stderr
    assert message in done.stderr


class TestMissingExtra:
    """In a folder of its own: a checkout may hold the metadata of an older build."""

    def test_a_checkout_is_named_by_its_folder(self, tmp_path: Path) -> None:
        code = "from deploy.commands.extras import install_command; print(install_command('serve'))"
        done = run(sys.executable, "-c", code, cwd=tmp_path)
        assert done.stdout == f"{sys.executable} -m pip install -e '{CHECKOUT}[serve]'\n"

    @pytest.mark.parametrize(
        ("module", "told"),
        [
            ("h5py.h5f", "`readers`"),
            ("torch", "`train`"),
            ("workers.gone", "None"),
            ("cv2", "None"),
            ("nowhere", "None"),
            (None, "None"),
        ],
    )
    def test_what_only_some_input_needs_is_told_when_it_is_missing(
        self, tmp_path: Path, module: str | None, told: str
    ) -> None:
        code = (
            "from deploy.commands.extras import missing_extra; "
            f"print(missing_extra(ModuleNotFoundError(name={module!r})))"
        )
        done = run(sys.executable, "-c", code, cwd=tmp_path)
        assert told in done.stdout


def _required(without: str | None = None) -> list[Requirement]:
    """Return what pyproject.toml names, for the base install and for the extras but one."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return [
        Requirement(text) for name, group in groups.items() for text in group if name != without
    ]


def test_what_is_imported_is_declared() -> None:
    """Nothing of what another package happens to bring along is imported without being named."""
    declared = {canonicalize_name(requirement.name) for requirement in _required()}
    providers = metadata.packages_distributions()
    undeclared: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in (CHECKOUT / package).rglob("*.py"):
            for module in _imports(file) - set(sys.stdlib_module_names) - set(PACKAGES):
                having = {canonicalize_name(name) for name in providers.get(module, [])}
                if not having & declared:
                    undeclared.setdefault(module, set()).add(str(file.relative_to(CHECKOUT)))
    assert undeclared == {}


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


class TestDistributions:
    def test_the_wheel_has_the_serve_config_and_all_other_data(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            config = archive.read("deploy/local/ray_config.yaml")
        assert config == (CHECKOUT / "ray_config.yaml").read_bytes()
        assert names >= _package_files()
        assert {f"{package}/py.typed" for package in PACKAGES} <= names
        licenses = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
        assert licenses == {"LICENSE", "NOTICE"}

    def test_readme_names_the_wheel(self, wheel: Path) -> None:
        readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
        assert {wheel.name} == set(re.findall(r"livegate-[\w.-]+\.whl", readme))

    def test_a_wheel_from_the_sdist_is_the_same(self, wheel: Path, tmp_path: Path) -> None:
        sources = copy_sources(tmp_path / "sources")
        (tmp_path / "made").mkdir()
        unpacked = build_sdist(sources, tmp_path / "made")
        assert not (unpacked / "deploy" / "local" / "ray_config.yaml").is_symlink()
        other = build_wheel(unpacked, tmp_path)
        with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(other) as two:
            assert set(one.namelist()) == set(two.namelist())

    def test_the_config_in_the_checkout_is_one_file(self) -> None:
        link = CHECKOUT / "deploy" / "local" / "ray_config.yaml"
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == CHECKOUT / "ray_config.yaml"


def _package_files() -> set[str]:
    """Return the files in the packages that are no documents and not made by running."""
    skipped = {"__pycache__", "benchmarks"}
    return {
        str(file.relative_to(CHECKOUT))
        for package in PACKAGES
        for file in (CHECKOUT / package).rglob("*")
        if file.is_file()
        and not skipped & set(file.relative_to(CHECKOUT).parts)
        and file.suffix not in (".md", ".pyc")
    }


class TestLocks:
    @pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
    def test_they_hold_any_build_of_torch(self, name: str) -> None:
        locked = _locked(name)
        assert not [each for each in locked if re.match(r"torch$|nvidia|cuda|triton", each)]

    def test_they_agree(self) -> None:
        runtime, development = _locked("requirements.lock"), _locked("requirements-dev.lock")
        assert runtime.items() <= development.items()

    def test_they_are_what_pyproject_allows(self) -> None:
        locked = {**_locked("requirements-dev.lock"), **_locked("requirements-torch.lock")}
        for requirement in _required(without="fuzz"):
            if requirement.name != "livegate":
                version = locked[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(version), str(requirement)


def _locked(name: str) -> dict[str, str]:
    lines = (CHECKOUT / name).read_text(encoding="utf-8").splitlines()
    pins = [re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin is not None}


def test_make_clean_keeps_keys(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_bytes((CHECKOUT / "Makefile").read_bytes())
    (tmp_path / ".livegate").mkdir()
    (tmp_path / ".venv").mkdir()
    assert run("make", "clean", cwd=tmp_path).returncode == 0
    assert [file.name for file in sorted(tmp_path.iterdir())] == [".livegate", "Makefile"]
