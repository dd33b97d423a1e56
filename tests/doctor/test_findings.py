from batchdigit.doctor.findings import (
    finding_line,
    findings_json,
    ok,
    problem,
    summary_lines,
    warning,
)


def test_remedies_name_the_options_of_a_run() -> None:
    told = {
        "make it, or add --parents": "make it, or run with --parents",
        "let it end, or add --wait SECONDS": "let it end, or run with --wait SECONDS",
        "add memory": "add memory",
    }
    for remedy, said in told.items():
        assert problem("x", "y", remedy).remedy == warning("x", "y", remedy).remedy == said


def test_lines_are_aligned_and_show_no_control_characters() -> None:
    findings = [
        ok("torch", "2.14.1"),
        problem("model", "a\n\x1b[31mb", "c"),
        warning("x", "y", "z"),
    ]
    assert [finding_line(finding) for finding in findings] == [
        "ok       torch          2.14.1",
        "problem  model          a [31mb; c",
        "warning  x              y; z",
    ]
    assert list(summary_lines(findings)) == ["1 problem, 1 warning"]
    assert list(summary_lines(findings[:1])) == ["no problems"]
    assert list(summary_lines(findings[1:2] * 2)) == ["2 problems"]
    assert findings_json(findings)["warnings"] == 1
