"""What runs where a login's Python runs when `check` tries it: it tells of that interpreter.

This text is given to a real pam_python by bridge_trial.py, and to the interpreter of pam_exec's
script by exec_trial.py; nothing imports it. Its one argument is the entry script of the PAM line.
The answer is a line of JSON on standard output.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pam_sm_open_session(pamh: Any, flags: int, argv: list[str]) -> int:  # noqa: ARG001
    """Answer the session phase of the trial."""
    _tell(_told(_import, argv[1]))
    return int(pamh.PAM_SUCCESS)


def tell_of_program(script: str) -> None:
    """Tell of the interpreter that pam_exec's script names."""
    _tell(_told(_import_as_program, script))


def _told(load: Any, script: str) -> dict[str, Any]:
    import time

    told: dict[str, Any] = {"start": time.process_time()}
    told["modules"] = _files()
    try:
        told["package"] = load(script)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        told["wrong"] = repr(error)
    importing = sys.modules.get("slurm_adopt.system.importing")
    told["image"] = bool(getattr(importing, "IMAGE", None))
    told["import"] = time.process_time() - told["start"]
    told["changed"] = _changed(importing) if told["image"] else []
    told["ours"] = [file for file in _files() if file not in told["modules"]]
    told.update(_interpreter())
    return told


def _import(script: str) -> dict[str, str]:
    """Import the package as the entry script does; return where it is, and its version."""
    with open(script, encoding="utf-8") as file:
        names: dict[str, Any] = {"__name__": "pam_slurm_adopt"}
        exec(compile(file.read(), script, "exec"), names)  # noqa: S102 - as pam_python does
    names["_front"](script)
    return _package()


def _import_as_program(script: str) -> dict[str, str]:
    """Import the package as pam_exec's script does."""
    import os

    with open(script, encoding="utf-8") as file:
        text = file.read()
    if "def _front(" in text:
        sys.argv[0] = script
        names: dict[str, Any] = {"__name__": "pam_slurm_adopt_exec"}
        exec(compile(text, script, "exec"), names)  # noqa: S102 - what a line of root's names
        names["_front"](script)
    else:  # of another release
        above = os.path.dirname(os.path.dirname(os.path.realpath(script)))
        sys.path.insert(0, above + "/src")
        if os.path.isfile(above + "/__init__.py"):  # a wheel's
            sys.path.append(os.path.dirname(above))
        __import__("slurm_adopt.front.pam_exec")  # of that copy, and not of this command's
    return _package()


def _changed(importing: Any) -> list[str]:
    """Return the sources of modules that few logins need and do not take from the image."""
    from marshal import loads

    if not hasattr(importing, "kept"):  # of another release
        return []
    others = importing.IMAGE[3]
    changed = [name for name in others if importing.kept([name]) is None]
    return sorted(loads(others[name])[0][0] for name in changed)  # noqa: S302 - as a login does


def _package() -> dict[str, str]:
    package = sys.modules["slurm_adopt"]
    return {"file": str(package.__file__), "version": str(getattr(package, "__version__", ""))}


def _files() -> list[str]:
    """Return the files of all modules that are imported."""
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({str(file) for file in found if file})


def _interpreter() -> dict[str, Any]:
    import os
    from contextlib import suppress
    from importlib import util

    names = [name for name in dir(sys.flags) if name[0] != "_" and name not in ("count", "index")]
    flags = {name: getattr(sys.flags, name) for name in names if not name.startswith("n_")}
    loaded: set[str] = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        loaded = {line.split(None, 5)[-1].rstrip("\n") for line in maps if "/" in line}
    return {
        "version": list(sys.version_info[:3]),
        "path": sys.path,
        "prefix": sys.prefix,
        "flags": {name: value for name, value in flags.items() if value},
        "tag": sys.implementation.cache_tag,
        "magic": util.MAGIC_NUMBER.hex(),
        "site": "site" in sys.modules,
        "variables": sorted(name for name in os.environ if name.startswith("PYTHON")),
        "libraries": sorted(file for file in loaded if ".so" in file),
    }


def _tell(told: dict[str, Any]) -> None:
    import json
    import os

    os.write(1, json.dumps(told).encode("ascii") + b"\n")


def _succeed(pamh: Any, flags: int, argv: list[str]) -> int:  # noqa: ARG001
    """Answer the phases that the trial is not about."""
    return int(pamh.PAM_SUCCESS)


pam_sm_authenticate = pam_sm_setcred = pam_sm_acct_mgmt = pam_sm_close_session = _succeed
