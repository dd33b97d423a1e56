from batchdigit.doctor.findings import (
    finding_line,
    findings_json,
    ok,
    problem,
    summary_lines,
    warning,
)


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
