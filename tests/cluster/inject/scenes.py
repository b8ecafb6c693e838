"""The logins whose system calls fail: who, by which front, through which stack."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.cluster.harness import pam
from tests.cluster.inject.calls import ACCOUNT, MARKS, PARTS, SESSION

# alice and carol have jobs on the node, bob has none.
ROOT, ALICE, BOB, CAROL = "root", "alice", "bob", "carol"

# pamtester under two names: what is called as OpenSSH's programs are opens a session for certain,
# so the session phase adopts; for any other the account phase does.
SSHD, OTHER = "/usr/local/sbin/sshd-pamtester", "/usr/bin/pamtester"
REAL = "/usr/sbin/sshd"
BOTH, ALONE = ("acct_mgmt", "open_session"), ("open_session",)
DEFAULTS: tuple[str, ...] = ()
# What has a login ask and read more; of pam_exec's some do nothing.
MORE = (
    *pam.PRODUCTION,
    *("job_env=all", "job_limits=1", "runtime_dir=job", "welcome=1", "reference=1"),
    *("user_choice=1", "single_job_skip_rpc=0"),
)
FEWER = 12  # a login by sshd takes some times as long


@dataclass(frozen=True)
class Scene:
    """One login."""

    who: str
    user: str
    program: str = SSHD
    calls: tuple[str, ...] = BOTH
    options: tuple[str, ...] = pam.PRODUCTION
    guard: bool = True
    parts: tuple[str, ...] = (ACCOUNT, SESSION)
    connected: bool = False  # from inside of a job, of which the user has two here
    fresh: bool = False  # the first login since the node has started: only what is done in /run
    every: int = 1  # of the calls each so many-th is tried
    front: str = "pam_python"

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.front}/{self.who}"

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that pam_exec's script is traced in, one after the other."""
        if self.user == BOB and self.calls == BOTH:  # it ends there
            return (ACCOUNT,)
        return (ACCOUNT, SESSION) if self.calls == BOTH else (SESSION,)

    def stack(self) -> list[str]:
        """Return the documented stack; pam_echo tells where the module's lines begin and end."""
        documented = {"pam_python": pam.both, "pam_exec": pam.by_pam_exec}[self.front]
        lines: list[str] = []
        for line in documented(*self.options):
            phase = line.partition(" ")[0]
            mark = f"{phase} optional pam_echo.so file={MARKS}/{phase}"
            if line in (pam.ROOT_GUARD, pam.SESSION_GUARD):
                lines += [f"{mark}.begin", *([line] if self.guard else [])]
            elif "pam_slurm_adopt" in line:
                lines += [line, f"{mark}.end"]
            else:
                lines.append(line)
        return lines


_EACH = (
    Scene("root", ROOT, parts=PARTS),
    Scene("root, no guard", ROOT, guard=False, parts=PARTS),
    Scene("job", ALICE),
    Scene("job, the account phase adopts", ALICE, OTHER),
    Scene("two jobs", ALICE, connected=True),
    Scene("job, more options", ALICE, options=MORE, every=FEWER),
    Scene("job, more options, the account phase adopts", ALICE, OTHER, options=MORE, every=FEWER),
    Scene("job, the node's first login", ALICE, fresh=True),
    Scene("no job", BOB, parts=PARTS),
    Scene("no job, session alone", BOB, calls=ALONE),
    Scene("no job, default options", BOB, options=DEFAULTS),
    Scene("sshd, root", ROOT, REAL, parts=PARTS),
    Scene("sshd, job", ALICE, REAL, every=FEWER),
    Scene("sshd, no job", BOB, REAL, every=FEWER),
)
# By pam_exec root jumps over the line by the guard, and nothing of ours is loaded. By pam_python
# the phases share a process, and leave no note in /run.
_NOT_BY = {
    "pam_exec": ("root", "sshd, root"),
    "pam_python": ("job, the node's first login",),
}
SCENES = {
    scene.name: scene
    for front in pam.FRONTS
    for scene in (replace(row, front=front) for row in _EACH)
    if scene.who not in _NOT_BY[front]
}
