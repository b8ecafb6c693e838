"""Which of the cluster's tests are played on Debian as it comes (test_stock.py), and which not."""

from __future__ import annotations

from tests.cluster.harness.suites import SUITES

FOLDER = "tests/cluster"

# What is played, on a cluster of Debian 12's Slurm on either machine: whole files, and parts.
WHOLE = ("test_adoption.py", "test_session_dies_with_its_job.py", "test_cleanup.py")
PARTS = {
    "test_uses.py": ("test_every_kind_of_use[publickey]", "test_copies"),
    "test_source.py": tuple(
        f"test_the_job_it_comes_from[{way}]"
        for way in ("to the other node", "by address", "second hop", "own node by loopback")
    ),
}
# What is not, and why.
V1 = "expects the paths of cgroup v1"
LONG_HERE = "not tried here: emulated, it would take longer than the cell has"
NOT_HERE = {
    "test_ansible.py": f"{LONG_HERE}; and its hosts need more of Debian's packages",
    "test_at_and_cron.py": LONG_HERE,
    "test_check_slurm.py": f"{LONG_HERE}; and some set-ups are broken in v1's hierarchies",
    "test_check_host.py": f"{LONG_HERE}; and it expects that PID 1 is not systemd",
    "test_check_pam.py": LONG_HERE,
    "test_check.py": f"{LONG_HERE}; one of its tests looks into v1's freezer",
    "test_deb.py": f"{LONG_HERE}; `./dev packages deb` plays it on other suites",
    "test_decisions.py": f"{V1}: /slurm_NODE/uid_N/job_N/step_extern in five hierarchies",
    "test_decisions_by_pam_exec.py": f"{LONG_HERE}; and it expects the paths of cgroup v1",
    "test_pam_exec.py": LONG_HERE,
    "test_demo.py": "the demo itself is played",
    "test_differential.py": f"{V1}, by which it tells the two modules apart",
    "test_epilog.py": f"{LONG_HERE}; test_v2.py sees the Epilog",
    "test_examples.py": LONG_HERE,
    "test_expired.py": LONG_HERE,
    "test_explain.py": f"{V1}, in which its sessions are moved",
    "test_faults.py": LONG_HERE,
    "test_failures.py": f"{LONG_HERE}; its rows of proctrack/linuxproc expect v1's hierarchies",
    "test_guide.py": LONG_HERE,
    "test_how_sshd_runs.py": LONG_HERE,
    "test_inject.py": LONG_HERE,
    "test_input.py": LONG_HERE,
    "test_install.py": f"{LONG_HERE}; and it expects that systemd does not run",
    "test_instructions.py": f"{LONG_HERE}; and its n1 has valgrind",
    "test_integrity.py": f"{LONG_HERE}; and it names the byte code of Debian 12's Python",
    "test_job_environment.py": f"{LONG_HERE}; test_v2.py sees variables and limits",
    "test_job_id_by_shell.py": f"{LONG_HERE}; and its n1 needs more of Debian's packages",
    "test_keyboard_interactive.py": LONG_HERE,
    "test_lockout.py": f"{V1}; `./dev lockout --vm` plays it in a machine with v2",
    "test_logins.py": f"{LONG_HERE}; the test_session.py in this folder sees journald",
    "test_many_jobs.py": LONG_HERE,
    "test_matrix.py": LONG_HERE,
    "test_namespaces.py": LONG_HERE,
    "test_nothing_left.py": f"{LONG_HERE}; and it freezes a job in v1's hierarchy",
    "test_own_job.py": f"{V1}: what a user does there is done to v1's hierarchies",
    "test_own_node.py": LONG_HERE,
    "test_peer.py": f"{V1}, of the C module",
    "test_programs.py": f"{LONG_HERE}; and its hosts need more of Debian's packages",
    "test_python.py": LONG_HERE,
    "test_recipes.py": LONG_HERE,
    "test_root.py": f"{LONG_HERE}; what it says of users expects v1's freezer",
    "test_runtime_dir.py": LONG_HERE,
    "test_session.py": f"{LONG_HERE}; the test_session.py in this folder sees the session phase",
    "test_sessions.py": f"{V1}: it moves sessions between its hierarchies",
    "test_soak.py": LONG_HERE,
    "test_source_faults.py": LONG_HERE,
    "test_source_liars.py": LONG_HERE,
    "test_stacks.py": f"{V1}: four hierarchies by their names",
    "test_tutorial.py": f"{V1}, which the page prints",
    "test_use.py": LONG_HERE,
    "test_where_slurm_is.py": LONG_HERE,
    "test_whoami.py": f"{V1}: it moves a shell out of one hierarchy",
    "test_wait_for_job.py": f"{LONG_HERE}; test_v2.py sees the wait",
    "test_welcome.py": LONG_HERE,
    "test_steering.py": f"{LONG_HERE}; and its n1 needs more of Debian's packages",
    "test_storm.py": f"{V1}: it slows a stepd down in a cgroup of v1",
    "test_write.py": f"{V1}, in which its stand-in moves processes; test_v2.py has v2's",
    "test_x11.py": LONG_HERE,
}
CELLS = {f"demo-{name}": SUITES[name] for name in ("bookworm", "trixie")}
