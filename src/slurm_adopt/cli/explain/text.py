"""What `explain` prints for people, from the same facts as `--json`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.output import line, table

if TYPE_CHECKING:
    from collections.abc import Iterable

HOURS = "%Y-%m-%d %H:%M:%S"
MARGIN = 14  # columns


def show(facts: dict[str, Any]) -> None:
    """Print what a login would come to, the verdict first."""
    verdict, user = facts["verdict"], facts["user"] or "nobody"
    line(f"{user} would be {verdict['words']}")
    if facts["lines"] == {"account": None, "session": None}:
        _item("but", f"{facts['service']}'s PAM stack has no line of this module: it is not asked")
    if facts["instead"]:
        _item("but", _instead(facts["instead"]))
    if verdict["outcome"] != "adopted":
        _item("because", verdict["why"])
    if verdict["outcome"] == "refused" and facts["message"]:
        _item("shown", f"what {facts['message']} says, with this sentence for %m")
    _item("decided by", _option(facts))
    if (facts["option"] or {}).get("value") == "ask" and facts["asks"]:
        _item("", "where the method of authentication has a conversation, the user is asked")
    _items("mistake", facts["mistakes"])
    _items("log", [text for text in facts["log"] if text.startswith("error: ")])
    _jobs(facts)
    if _counts(facts["jobs"]) > 1 or (facts["source"] or {}).get("given"):
        _source(facts["source"])
    _place(facts)
    _would(facts)
    for text in facts["not_seen"]:
        line()
        line(f"Not seen: {text}")


def _item(name: str, text: str) -> None:
    line(f"  {name:<{MARGIN - 2}}{text}")


def _items(name: str, texts: Iterable[str]) -> None:
    for text in texts:
        _item(name, text)


def _instead(other: dict[str, Any]) -> str:
    """Say what other lines of the stack make of it."""
    said = {
        "let in": "another line lets the user in without a job",
        "perhaps let in": "another line may let the user in without a job",
        "refused": "the user is refused all the same",
    }
    where = other["where"]
    place = f" ({where['file']}:{where['line']})" if where["file"] else ""
    return f"{said[other['outcome']]}: {other['why']}{place}"


def _option(facts: dict[str, Any]) -> str:
    option = facts["option"]
    if option is None:
        return "no option: there was nothing to decide"
    where = option["where"]
    said = {"default": "its default", "the command line": "as given here"}
    return f"{option['name']}={option['value']} ({said.get(where, f'set in {where}')})"


def _jobs(facts: dict[str, Any]) -> None:
    if facts["being_set_up"]:
        _item("soon", f"{facts['being_set_up']}; wait_for_job= would have the login wait for it")
    jobs = facts["jobs"]
    if not jobs:
        return
    line()
    line(f"Jobs of {facts['user']} with an extern step here")
    rows = []
    for job in jobs:
        started = job["started"]
        at = time.strftime(HOURS, time.localtime(started)) if started else "not known"
        remark = job["trouble"] or ("" if job["counts"] else "does not count any more")
        mark = "*" if job["chosen"] else ""
        rows.append((mark, job["job"], job["state"], at, job["release"] or "?", remark))
    table(("", "JOB", "STATE", "STARTED", "SLURM", ""), rows)


def _counts(jobs: list[dict[str, Any]]) -> int:
    return sum(job["counts"] for job in jobs)


def _source(source: dict[str, Any] | None) -> None:
    if source is None:
        return
    line()
    line("Where the login comes from")
    if source["connection"]:
        from_, port, to, here = source["connection"].split()
        held = f", which process {source['sshd']} of sshd has" if source["sshd"] else ""
        _item("connection", f"{_end(from_, port)} to {_end(to, here)}{held}")
    if source["remark"]:
        _item("", source["remark"])
    places = [
        _end(place["address"], place["port"]) if place["address"] else f"port {place['port']}"
        for place in source["ask"]
    ]
    at = ", ".join(places)
    if source["connection"]:
        _item("asked", f"slurmd at {at}, by {source['auth']}")
        said = f"it is of job {source['job']}" if source["job"] else source["said"]
        _item("answer", said)
    elif places:
        _item("would ask", f"the slurmd at the source, {at}, by {source['auth']}")
    elif source["said"]:
        _item("", source["said"])


def _end(address: str, port: object) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _place(facts: dict[str, Any]) -> None:
    session = facts["session"]
    if session is None:
        return
    line()
    line("What the session would get")
    phase = session["phase"]
    why = f": {session['why_not_session']}" if session["why_not_session"] else ""
    _item("adopted in", f"the {phase} phase{why}")
    cgroups = facts["cgroups"]
    if not session["confined"]:
        _item("cgroups", "none: this configuration confines nothing by cgroups")
    for path in dict.fromkeys(cgroups.values()):
        names = " ".join(name or "v2" for name in sorted(cgroups) if cgroups[name] == path)
        _item("cgroups", f"{names}: {path}")
    if not session["environment"]:
        _item("variables", "none: pam_exec can set none")
    for name, value in sorted(session["environment"].items()):
        _item("variable", f"{name}={value}")
    if session["namespaces"]:
        _item("namespaces", " ".join(session["namespaces"]))
    if session["limits_of"]:
        _item("limits", f"those of process {session['limits_of']} of the job")
    _items("without", session["without"])


def _would(facts: dict[str, Any]) -> None:
    line()
    line("What would change that")
    refused = facts["if_its_stepd_refuses"]
    user = facts["user"]
    if refused:
        line(f"  if its stepd refuses the process: {user} would be {refused['words']}")
    for other in facts["would"]:
        line(f"  {other['option']}: {user} would be {other['words']}")
    if not facts["would"]:
        line("  no other value of any one option would")


# --pid


def show_place(facts: dict[str, Any]) -> None:
    """Print where a process is, the verdict first."""
    user, unknown = facts["user"], facts["where"] == "not known"
    who = f"process {facts['pid']} ({facts['command']}) of {user}"
    line(f"{who}: its job is not known" if unknown else f"{who} is {facts['words']}")
    if unknown:
        _item("because", facts["words"])
    if facts["sshd"] is None:
        _item("but", "no process of sshd's is above it: it is of no ssh session")
    if facts["decided"]:
        _item("the log", _decided(facts))
    now = facts["a_login_now"]
    _item("a login now", f"{user} would be {now['words']}")
    login = (facts["decided"] or {}).get("login")
    if login and login["outcome"] == "adopted" and facts["job"] not in (None, login["job"]):
        _item("so", f"it was adopted into job {login['job']}, and is in job {facts['job']} now")
    if facts["as_it_should"] is False:
        _item("so", "it should be in a job, and is not")
    elif facts["sshd"] is not None and not facts["should_be_in_a_job"]:
        _item("so", f"it need not be in a job: {now['why']}")
    line()
    rows = [
        (
            row["controller"] or "v2",
            "yes" if row["confines"] else "",
            row["job"] or "",
            row["path"],
        )
        for row in facts["hierarchies"]
    ]
    table(("HIERARCHY", "CONFINES", "JOB", "CGROUP"), rows)


def _decided(facts: dict[str, Any]) -> str:
    """Say what the module decided when the session was opened."""
    login, remark = facts["decided"]["login"], facts["decided"]["remark"]
    if login is None:
        return str(remark)
    at = time.strftime(HOURS, time.localtime(login["time"]))
    job = f" into job {login['job']}" if login["outcome"] in ("adopted", "chosen") else ""
    return f"{at}: {login['outcome']}{job} ({login['how'] or login['text']})"
