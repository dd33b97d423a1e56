"""What the documents tell people to type works, and what they say of the program is true."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchdigit import errors
from batchdigit.resume.last_report import read_state
from batchdigit.sources.endings import EXTENSIONS
from tests.support import oracle
from tests.support.programs import app
from tests.support.samples import REPOSITORY, SAMPLES

BLOCK = re.compile(r"^(<!-- setup: [\w ]+ -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
}
README = PAGES["README.md"]
NIGHT = BLOCK.findall(PAGES["docs/night-after-night.md"])
SETUP = {
    setup.split(": ")[1].split(" -->")[0]: code.strip()
    for setup, _, code in BLOCK.findall(README)
    if setup
}
FILE = re.compile(r"# ([\w-]+\.(?:py|toml))\n")  # in the first line of a block: what to save it as
SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]


def sections_that_run() -> Iterator[Any]:
    for page, text in PAGES.items():
        for section in re.split(r"^## ", text, flags=re.MULTILINE):
            blocks = BLOCK.findall(section)
            if any(code in ("bash", "python") and not setup for setup, code, _ in blocks):
                title = section.splitlines()[0].lstrip("# ")
                marks = SLOW if "batchdigit bench " in section else []
                yield pytest.param(section, id=f"{page}: {title}", marks=marks)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLES, tmp_path / "sample_images")
    return tmp_path


def shell(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"]}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("section", list(sections_that_run()))
def test_code_of_a_section_runs_from_top_to_bottom(section: str, workplace: Path) -> None:
    for setup, language, code in BLOCK.findall(section):
        if named := FILE.match(code):
            (workplace / named[1]).write_text(code, encoding="utf-8")
        if language == "bash" and not setup:
            done = shell(code, workplace)
        elif language == "python":
            program = [named[1]] if named else ["-c", code]
            done = subprocess.run(
                [sys.executable, *program], cwd=workplace, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
        else:
            continue
        assert done.returncode == 0, done.stderr


def test_main_job_after_its_setup_gives_the_right_table(workplace: Path) -> None:
    """The set-up itself runs in .ci/run, in a fresh clone."""
    *setup, job = SETUP["main job"].split(" && ")
    assert setup == ["python3 -m venv .venv", ".venv/bin/pip install ."]
    done = shell(job.replace(".venv/bin/", ""), workplace)
    assert done.returncode == 0, done.stderr
    rows = (workplace / "preds.csv").read_text().splitlines()[1:]
    right = [row.split(",")[1] == row.split(",")[0][-5] for row in rows]
    assert len(right) == 100
    assert sum(right) >= 99


def test_ci_runs_the_very_commands_of_the_readme() -> None:
    assert set(SETUP) == {"main job", "tests"}
    script = (REPOSITORY / ".ci" / "run").read_text()
    for name in SETUP:
        assert re.search(rf'^run_readme_command "{name}"$', script, re.MULTILINE), name
    assert SETUP["tests"].endswith(".venv/bin/python -m pytest")


def test_crontab_line_is_a_command_that_runs(workplace: Path) -> None:
    (line,) = (code for _, language, code in NIGHT if language == "crontab")
    command = line.split(maxsplit=5)[5]
    command = command.replace("/opt/batchdigit/.venv/bin/", "").replace(
        "/data/images", "sample_images"
    )
    done = shell(command.replace("/data/", ""), workplace)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_service_and_timer_are_units_that_systemd_takes(tmp_path: Path) -> None:
    service, timer = (code for _, language, code in NIGHT if language == "systemd")
    program = tmp_path / "batchdigit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    service = service.replace("/opt/batchdigit/.venv/bin/batchdigit", str(program))
    for name, text in (("service", service), ("timer", timer)):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        assert set(unit.sections()) <= {"Unit", "Service", "Timer", "Install"}
        (tmp_path / f"batchdigit.{name}").write_text(text)
    if shutil.which("systemd-analyze"):
        units = [tmp_path / "batchdigit.service", tmp_path / "batchdigit.timer"]
        done = subprocess.run(
            ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_nightly_commands_differ_only_in_where_they_run() -> None:
    commands = [
        re.findall(r"batchdigit (run .*)", code)
        for _, language, code in NIGHT
        if language in ("crontab", "systemd", "container") and " run " in code
    ]
    assert len(commands) == 3
    assert commands == [commands[0]] * 3
    assert len(commands[0]) == 1


def test_both_ways_of_saving_are_those_of_the_tutorial() -> None:
    """The page's class is the tutorial's, layer for layer."""
    blocks = BLOCK.findall(PAGES["docs/your-own-model.md"])
    code = next(code for _, _, code in blocks if "class CNN" in code)
    names: dict[str, Any] = {}
    exec(code.split("model = ")[0], names)  # noqa: S102
    assert str(names["CNN"]()) == str(oracle.CNN())


def test_options_of_a_run_are_those_of_their_page_with_their_defaults() -> None:
    import typer

    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    in_words = {"--batch-size", "--workers", "--model", "--class-name", "--key", "--format"}
    in_words |= {"--max-gone", "--log-format", "--preprocess", "--input-size", "--channels"}
    in_words |= {"--range", "--expects", "--layout", "--place", "--scores"}
    options = {
        parameter.opts[0]: ""
        if parameter.default is None or parameter.default is False
        else str(parameter.default)
        for parameter in run.params
        if parameter.opts[0].startswith("--") and parameter.opts[0] not in ("--help", "--version")
    }
    rows = re.findall(r"^\| `(--[\w-]+)`.*\|(.*)\|$", PAGES["docs/options.md"], re.MULTILINE)
    assert sorted(option for option, _ in rows) == sorted(options)
    for option, told in rows:
        default = options[option].removesuffix(".0")
        if option in in_words:  # they depend on the machine, the file or another option
            assert default in ("", "auto")
            assert told.strip(), option
        else:
            assert told.strip(" `") == default, option


def test_options_stand_under_the_heading_of_their_group_in_the_help() -> None:
    import typer

    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    groups = {
        parameter.opts[0]: getattr(parameter, "rich_help_panel", "") for parameter in run.params
    }
    parts = re.split(r"^## (.*)$", PAGES["docs/options.md"], flags=re.MULTILINE)
    for heading, part in zip(parts[1::2], parts[2::2], strict=True):
        options = re.findall(r"^\| `(--[\w-]+)`", part, re.MULTILINE)
        assert options
        assert {groups[option] for option in options} == {heading}


def test_options_that_rows_depend_on_are_those_of_the_page(workplace: Path) -> None:
    shell("batchdigit run sample_images --out preds.csv", workplace)
    state = read_state(workplace / ".preds.csv.state")
    assert state is not None
    bound = {option for key in state.binding for option in re.findall(r"--[\w-]+", key)}
    section = PAGES["docs/night-after-night.md"].split("\n## What must be the same\n")[1]
    told = section.split("\n## ")[0].split("All other options")[0].split("Continuing a stopped")[0]
    # Of --backend and --device, what was chosen counts, not what was asked for.
    assert bound - {"--backend"} == set(re.findall(r"`(--[\w-]+)`", told))


def test_extensions_of_images_are_those_of_the_pages() -> None:
    for page in ("README.md", "docs/options.md"):
        text = PAGES[page].replace("\n", " ")
        (told,) = re.findall(r"`(\.png \.[\w. ]+)`", text)
        assert sorted(told.split()) == sorted(ending.decode() for ending in EXTENSIONS), page


def test_blocks_are_in_languages_that_the_tests_know() -> None:
    """A block in ``sh`` or without a language would look like code, but nothing would run it."""
    code, settings = {"bash", "python", "pip"}, {"crontab", "systemd", "dockerfile", "container"}
    known = code | settings | {"text", "csv", "toml"}
    for page, text in PAGES.items():
        fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
        assert len(fences) == 2 * len(BLOCK.findall(text)), page
        assert {fence for fence in fences if fence} <= known, page
        assert fences[1::2] == [""] * (len(fences) // 2), page


def test_keys_of_the_account_are_those_of_their_page(workplace: Path) -> None:
    shell("batchdigit run sample_images --out preds.csv --quiet", workplace)
    account = json.loads((workplace / "preds.csv.run.json").read_text())
    table = PAGES["docs/report.md"].split("\n## The account of a run\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(account)


@pytest.mark.parametrize("torn", [False, True])
def test_pandas_by_itself_reads_a_report_with_and_without_error_rows(
    workplace: Path, torn: bool
) -> None:
    if torn:
        (workplace / "sample_images" / "NA.png").write_bytes(b"torn")
    (code,) = (code for _, _, code in BLOCK.findall(PAGES["docs/report.md"]) if "read_csv" in code)
    code += (
        "assert (same['prediction'] == 3).sum() == 10\n"
        "assert same['error'].notna().sum() == len(same) - 100\n"
        "assert list(map(str, same.dtypes))[:2] == ['string', 'Int64']\n"
        "pd.testing.assert_frame_equal(same, table, check_dtype=False)\n"
        "print(len(same))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"\n{100 + torn}\n")


def test_every_exit_code_is_in_the_table() -> None:
    for code, meaning in errors.EXIT_CODE_MEANINGS.items():
        assert f"| {code} | {meaning}" in README.replace("`", "")


@pytest.mark.parametrize(
    "page",
    sorted(
        path
        for pattern in ("*.md", "docs/*.md", "*/README.md", "batchdigit/**/*.md", "benchmarks/*.md")
        for path in set(REPOSITORY.glob(pattern))
    ),
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), (
            f"{target}#{anchor}"
        )


def anchors(text: str) -> list[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_readme_is_read_in_one_go_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 160
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in README, page


def test_python_versions_agree() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    oldest, latest = versions[0], versions[-1]
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert re.findall(r"[\d.]+", matrix) == versions
    assert f'requires-python = ">={oldest}"' in project
    assert f'target-version = "py{oldest.replace(".", "")}"' in project
    assert f'python_version = "{oldest}"' in project
    assert f"Python {oldest} to {latest}" in README


def test_promises_name_tests_that_there_are() -> None:
    promises = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", promises))
    assert len(named) > 20
    assert not [name for name in named if not (REPOSITORY / name).is_file()]
    ours = re.findall(r"`((?:models|modelfiles)/\w+\.py)`", promises)
    assert not [name for name in ours if not (REPOSITORY / "batchdigit" / name).is_file()]
