"""PAM stacks in files: is there a session line of ours, and is it reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_adopt import stack

OURS = "pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py"
LINE = f"session required {OURS}"
GUARD = "session [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"
ENDS = "session sufficient pam_localuser.so\n"

# (sshd's file, other files, arguments or None)
STACKS: list[tuple[str, dict[str, str], list[str] | None]] = [
    (LINE, {}, []),
    (f"{LINE} log_level=debug nodename=n1", {}, ["log_level=debug", "nodename=n1"]),
    (f"  Session\tREQUIRED {OURS}  # last", {}, []),
    (f"-session required {OURS}", {}, []),
    (f"session requisite {OURS}", {}, []),
    (f"session [success=ok ignore=ignore default=bad] {OURS}", {}, []),
    (f"session [default=die] {OURS}", {}, []),
    (f"session [success=ok] {OURS}", {}, []),  # what is not named is bad
    # a failure that counts for nothing
    (f"session optional {OURS}", {}, None),
    (f"session [success=ok default=ignore] {OURS}", {}, None),
    (f"session sufficient {OURS}", {}, None),
    (f"session [success=ok default=bad] {OURS} x=1", {}, ["x=1"]),
    (f"{GUARD}\n{LINE}", {}, []),
    (f"session required pam_x.so # \\\n{LINE} a=b", {}, ["a=b"]),  # no continuation in a comment
    (f"session required \\\n  {OURS} \\ \n a=b", {}, ["a=b"]),
    ("session required pam_python.so ./pam_slurm_adopt.py", {}, []),
    (f"{LINE} first=1\n{LINE} second=2", {}, ["first=1"]),
    # none
    ("", {}, None),
    (f"account required {OURS}", {}, None),
    (f"# {LINE}", {}, None),
    (f"session required pam_unix.so # {OURS}", {}, None),
    ("session required pam_slurm_adopt.so", {}, None),
    ("session required pam_python.so /opt/other/not_pam_slurm_adopt.py", {}, None),
    ("session required", {}, None),
    ("session", {}, None),
    # other files
    ("@include common", {"common": LINE}, []),
    ("@include common\n", {"common": f"{LINE} a=1\n"}, ["a=1"]),
    ("session include common", {"common": f"account required x.so\n{LINE}"}, []),
    ("session substack common", {"common": LINE}, []),
    ("account include common", {"common": LINE}, None),
    ("@include common", {"common": "@include deeper", "deeper": LINE}, []),
    (f"@include nowhere\n{LINE}", {}, []),
    ("@include sshd", {}, None),
    (
        "@include a\n@include a",
        {"a": "@include b\n@include b", "b": "@include a\n@include a"},
        None,
    ),
    (f"session required pam_unix.so\n{LINE}", {}, []),
    # a line in front that may end the stack
    (ENDS + LINE, {}, None),
    (f"session [success=done default=ignore] pam_x.so\n{LINE}", {}, None),
    (f"session [ success = done default=ignore ] pam_x.so\n{LINE}", {}, None),
    (f"account sufficient pam_localuser.so\n{LINE}", {}, []),
    (f"{LINE}\n{ENDS}", {}, []),
    (f"session include common\n{LINE}", {"common": ENDS}, None),
    (f"@include common\n{LINE}", {"common": ENDS}, None),
    (f"session substack common\n{LINE}", {"common": ENDS}, []),
    ("session substack common", {"common": ENDS + LINE}, None),
]


@pytest.mark.parametrize(("text", "others", "expected"), STACKS)
def test_session_line(
    tmp_path: Path, text: str, others: dict[str, str], expected: list[str] | None
) -> None:
    for name, content in {"sshd": text, **others}.items():
        (tmp_path / name).write_text(content)
    assert stack.session_line("sshd", (str(tmp_path),)) == expected


# (arguments of the line, whether it enters)
JOINS = [
    ("", True),
    ("join_container=true", True),
    ("JOIN_CONTAINER=False", False),
    ("join_container=flase", True),  # a misspelt value means the strictest
    ("join_container=false join_container=true", True),
    ("service=login", False),
    ("service=*", True),
    ("action_adopt_failure=deny", True),
]


@pytest.mark.parametrize(("arguments", "expected"), JOINS)
def test_joins(tmp_path: Path, arguments: str, expected: bool) -> None:
    (tmp_path / "sshd").write_text(f"{LINE} {arguments}\n")
    assert stack.joins("sshd", (str(tmp_path),)) == expected
    assert not stack.joins("login", (str(tmp_path),))


def test_places(tmp_path: Path) -> None:
    """The first that has the file counts, also for what is included; a path is taken as it is."""
    first, second = tmp_path / "etc", tmp_path / "lib"
    first.mkdir()
    second.mkdir()
    places = (str(first), str(second))
    (second / "sshd").write_text("@include common\n")
    assert stack.session_line("sshd", places) is None
    (second / "common").write_text(LINE)
    assert stack.session_line("SSHD", places) == []
    (first / "common").write_text("")
    assert stack.session_line("sshd", places) is None
    (first / "sshd").write_text(f"@include {second}/common")
    assert stack.session_line("sshd", places) == []


def test_bounds(tmp_path: Path) -> None:
    """What is too large, too deep, or no file is passed over."""
    place = (str(tmp_path),)
    (tmp_path / "sshd").write_text("#" * stack.LIMIT + f"\n{LINE}\n")
    assert stack.session_line("sshd", place) is None
    (tmp_path / "sshd").unlink()
    (tmp_path / "sshd").mkdir()
    assert stack.session_line("sshd", place) is None
    (tmp_path / "sshd").rmdir()
    for depth in range(stack.DEPTH + 2):
        (tmp_path / f"{depth}").write_text(f"@include {depth + 1}\n")
    (tmp_path / f"{stack.DEPTH}").write_text(LINE)
    assert stack.session_line("0", place) == []
    assert stack.session_line("1", place) == []
    (tmp_path / f"{stack.DEPTH}").write_text(f"@include {stack.DEPTH + 1}\n")
    (tmp_path / f"{stack.DEPTH + 1}").write_text(LINE)
    assert stack.session_line("0", place) is None
    (tmp_path / "ours").write_text(LINE)
    for empty, expected in ((stack.FILES - 2, []), (stack.FILES - 1, None)):
        (tmp_path / "sshd").write_text("@include nowhere\n" * empty + "@include ours\n")
        assert stack.session_line("sshd", place) == expected
