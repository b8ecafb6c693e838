"""./dev itself: what it leaves on the machine, and what it says where it cannot go on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dev import fronts

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
POLICY = "/usr/sbin/policy-rc.d"

# Runs ./dev over folders of the test's own where it would change the machine's, and whole in a
# session of its own. Then waits until the policy is as before: its shells end one after the other.
RUN = f"""\
mount --bind "$1/stubs" /usr/local/sbin
mount --bind "$1/sbin" /usr/sbin
setsid --wait env --default-signal=HUP,INT,TERM "$2/dev" test --version
echo "status $?"
for _ in $(seq 100); do
    [ -e "$1/before" ] || [ ! -e {POLICY} ] || {{ sleep 0.1; continue; }}
    [ -z "$(ls "$1/tmp")" ] || {{ sleep 0.1; continue; }}
    break
done
"""


def run(
    top: Path, stubs: Mapping[str, str], policy: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ./dev with other programs in the place of some; `policy`: of somebody else's."""
    for name in ("stubs", "sbin", "tmp", "cache"):
        (top / name).mkdir()
    for name, script in stubs.items():
        (top / "stubs" / name).write_text(f"#!/bin/sh\n{script}\n")
        (top / "stubs" / name).chmod(0o755)
    if policy:
        (top / "before").touch()
        (top / POLICY.removeprefix("/usr/")).write_text(policy)
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", RUN, "sh", top, CHECKOUT],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "TMPDIR": str(top / "tmp"),
            "SLURM_ADOPT_CACHE": str(top / "cache"),
            **env,
        },
    )


# apt-get, in the place of which the terminal goes away or somebody ends ./dev; the policy is seen.
ENDING = f'{POLICY}; echo "policy $?"; kill -%s 0; sleep 60'


@pytest.mark.parametrize("policy", ["", "#!/bin/sh\nexit 42\n"], ids=["none", "another"])
@pytest.mark.parametrize("signal", ["HUP", "INT", "TERM"])
def test_no_policy_stays(tmp_path: Path, signal: str, policy: str) -> None:
    """Debian's services would not start any more, on a machine that ./dev has only passed by."""
    stubs = {"dpkg-query": "", "apt-get": ENDING % signal}
    done = run(tmp_path, stubs, policy)
    assert "status 0" not in done.stdout
    assert (tmp_path / "cache/apt.log").read_text().startswith("policy 101\n")
    there = tmp_path / "sbin/policy-rc.d"
    assert (there.read_text() if there.exists() else "") == policy
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_the_guide_has_the_packages_that_it_installs() -> None:
    text = (CHECKOUT / "dev").read_text()
    given = re.findall(r'\b(?:machines|packages)="([^"]*)"', text)
    wanted = {word for words in given for word in words.split() if not word.startswith("$")}
    _, _, table = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("| for | packages |\n")
    rows = table.partition("\n\n")[0].splitlines()
    named = {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[2])}
    assert named == wanted


def test_no_package_index(tmp_path: Path) -> None:
    stubs = {"dpkg-query": "echo installed"}
    env = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    done = run(tmp_path, stubs, **env)
    log = tmp_path / "cache/pip.log"
    said = f"./dev cannot run here: pip could not install tests/requirements.txt: see {log}\n"
    assert done.stderr == said
    assert "status 1" in done.stdout
    assert "No matching distribution found" in log.read_text()
    assert not [*(tmp_path / "cache").glob("venv-*/complete")]


def test_what_fronts_plays_is_there() -> None:
    """Each file, and each test that is left out of one."""
    folder = CHECKOUT / fronts.FOLDER
    for name in fronts.FILES:
        assert (folder / name).is_file(), name
    for name in fronts.EXCEPT:
        file, _, test = name.partition("::")
        assert file in fronts.FILES
        assert f"def {test.partition('[')[0]}(" in (folder / file).read_text(), name
