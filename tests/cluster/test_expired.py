"""An expired password is no way around the account lines, and what may end a stack is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.scenarios import expired, stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

# What an included account phase may be. Each ends the whole phase with a success or with the wish
# for a new password, for local users or for all. (`requisite` and `die` only refuse.) pam_permit
# stands for modules that Debian's roots lack.
UNIX = "[success={} new_authtok_reqd=done default=ignore] pam_unix.so"
DENY = ("requisite pam_deny.so", "required pam_permit.so")
INCLUDED = {
    "Debian": (UNIX.format(1), *DENY),
    "Debian with sssd": (
        UNIX.format(1), *DENY,
        "sufficient pam_localuser.so",
        "[default=bad success=ok user_unknown=ignore] pam_permit.so",
    ),
    "Debian with winbind or LDAP": (
        UNIX.format(2), "[success=1 new_authtok_reqd=done default=ignore] pam_permit.so", *DENY,
    ),
    "RHEL": (
        "required pam_unix.so", "sufficient pam_localuser.so",
        "sufficient pam_usertype.so issystem",
        "[default=bad success=ok user_unknown=ignore] pam_permit.so", "required pam_permit.so",
    ),
    "a system's user on RHEL": (
        "required pam_unix.so", "sufficient pam_usertype.so isregular",
        "required pam_permit.so",
    ),
    "an optional success": ("sufficient pam_permit.so",),
}  # fmt: skip


def test_without_a_job(cluster: Cluster) -> None:
    expired.without_a_job(cluster)


def test_with_a_job(cluster: Cluster) -> None:
    expired.with_a_job(cluster)


@pytest.fixture
def included(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Have on n1 another common-account; return the file that includes it."""
    usual = cluster.n1.read("etc/pam.d/common-account")
    account = [f"account {line}" for line in INCLUDED[request.param]]
    cluster.n1.pam("common-account", account)
    yield stock.debian(stock.suite_of(cluster))
    cluster.n1.pam("common-account", usual)


EACH = pytest.mark.parametrize("included", INCLUDED, indirect=True)


@EACH
@pytest.mark.parametrize("lines", [pam.both_lines, pam.account_line_only], ids=["both", "account"])
def test_what_may_end_the_phase(cluster: Cluster, included: str, lines: pam.Printed) -> None:
    """Without a job nobody gets in: neither with an expired password nor with a good one."""
    stack = stock.with_lines(included, lines(*pam.PRODUCTION))
    assert expired.is_refused(cluster, stack, expired.KBDINT) == ""
    assert cluster.ssh("alice").rc == 255
    assert cluster.ssh("root").rc != 255  # whom sshd may tell to change the password


def gets_past(cluster: Cluster, text: str) -> bool:
    """Say whether an expired password goes around an account line behind the include."""
    lines = pam.account_line_only(*pam.PRODUCTION)
    stock.use(cluster, stock.behind_the_include(text, lines))
    mark = cluster.n1.mark()
    with expired.expired(cluster.n1):
        result = expired.logs_in(cluster, expired.KBDINT)
    return result.rc == 0 and not expired.said(cluster.n1, mark)


@EACH
def test_behind_the_include(cluster: Cluster, included: str) -> None:
    """Why the place matters: there, the account line alone is not even asked."""
    assert gets_past(cluster, included)


def test_behind_the_include_of_rhel(cluster: Cluster) -> None:
    assert gets_past(cluster, stock.STOCKS["rhel"](cluster))
