"""Which driver a host gets, from where, and what stands against it: pure functions over the infrastructure probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.bedplate.driver_packages import (
    PackageSet,
    branch_of,
    is_driver_package,
    package_set,
    source_branches,
)
from ansible.module_utils.bedplate.driver_truth import driver_problems
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.stack import StackError, load_tables, plan_driver
from ansible.module_utils.stack.drivers import DriverNeeds, branch_has, driver_needs, each_need
from ansible.module_utils.stack.host import host_of, wish_of
from ansible.module_utils.stack.tables import Cuda
from ansible.module_utils.stack.versions import version

CHANGE = "ansible-playbook playbooks/upgrade_driver.yml"
# They hold the devices open and are stopped or restarted with the driver.
OWN_DAEMONS = ("nvidia-persiste", "nvidia-persistenced", "nv-fabricmanager", "nv-hostengine", "bedplate-infere")


@dataclass(frozen=True)
class Wish:
    """The role's variables. branch, version, flavour: None is auto. cuda: the wheel variant wished for, if one is named."""

    source: str
    branch: int | None
    version: str | None
    flavour: str | None
    fabric_manager: str
    cuda: Cuda | None


@dataclass(frozen=True)
class Present:
    """The driver on the host. loaded: its module runs now. packaged: it came from packages, not from NVIDIA's installer.
    managed: Bedplate installed it, from this source."""

    version: str
    flavour: str | None
    loaded: bool
    packaged: bool
    managed: str | None


@dataclass
class Plan:
    """What is to be done. action: none (CPU host), keep (a driver that is not ours and serves), ensure (install what is missing)."""

    action: str
    why: str
    source: str | None = None
    branch: str | None = None
    flavour: str | None = None
    version: str | None = None
    at_least: str | None = None
    fabric_manager: bool = False
    packages: dict[str, Any] = field(default_factory=dict)
    replaces: str | None = None
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as the role reads it."""
        return dict(vars(self))


def plan_host(
    probe: Mapping[str, Any],
    want: Mapping[str, Any],
    sources: Mapping[str, Any],
    receipt: Mapping[str, Any] | None = None,
    change: bool = False,
) -> dict[str, Any]:
    """The plan of one host as plain data; its `problems` are the refusals, said before anything is changed.

    probe: bedplate_infrastructure. want: policy, source, branch, version, flavour, fabric_manager, variant (of PyTorch).
    sources: what each package source has (vars/<Distro>_<major>.yml). receipt: its section nvidia_driver. change: another
    driver than the installed one may take its place (playbooks/upgrade_driver.yml).
    """
    gpus = [{"name": gpu.get("name"), "pci_id": gpu["pci_id"]} for gpu in probe["gpus"]]
    if not gpus:
        return Plan("none", "no NVIDIA GPU on the PCI bus: a CPU host").as_dict()
    if want["policy"] == "ignore":
        return Plan("none", "nvidia_driver_policy=ignore: used as a CPU host").as_dict()
    wish, problems = _wish(want)
    if wish is None:
        return Plan("none", "the variables contradict each other", problems=problems).as_dict()
    needs, unknown = _needs(gpus, wish)
    if unknown:
        return Plan("none", "unknown GPU", problems=[unknown]).as_dict()
    problems = _contradictions(wish, needs, gpus)
    if problems:
        return Plan("none", "no such driver serves this host", problems=problems).as_dict()
    present = _present(probe, receipt or {})
    if present and (problem := _misfit(present, wish, needs)):
        if not change:
            if not _against_wish(present, wish) and (told := driver_problems(probe)):
                # Not the inventory is at odds with the driver, but the GPUs: the truth check says it best.
                return Plan("none", "the driver does not fit the GPUs", problems=list(told)).as_dict()
            fix = f"run {CHANGE}, which changes a driver deliberately and brings the old one back if it fails."
            found = f"{present.version} ({present.flavour or 'modules not said'})"
            text = refusal("BP123", "another driver is installed", found, problem, fix)
            return Plan("none", "another driver is installed", problems=[text]).as_dict()
        plan = _install(probe, gpus, wish, needs, sources)
        plan.replaces = present.version
        return plan.as_dict()
    if present and present.managed is None and not change and (present.loaded or not present.packaged):
        why = f"driver {present.version} is there and serves the GPUs and the wish"
        fabric = _fabric_wanted(probe, wish)
        return Plan(
            "keep",
            why,
            "existing",
            str(branch_of(present.version)),
            present.flavour,
            present.version,
            fabric_manager=fabric,
        ).as_dict()
    return _install(probe, gpus, _as_present(wish, present, sources), needs, sources).as_dict()


def in_use_problems(probe: Mapping[str, Any]) -> list[str]:
    """A refusal naming the programs that use the GPUs, for who wants to replace the running driver."""
    users = {
        (user["pid"], user["name"])
        for user in [*(probe.get("compute_processes") or []), *(probe.get("device_users") or [])]
        if not str(user["name"]).rsplit("/", 1)[-1].startswith(OWN_DAEMONS)
    }
    if not users:
        return []
    found = ", ".join(f"{name} (process {pid})" for pid, name in sorted(users, key=str))
    return [
        refusal(
            "BP127",
            "GPU in use",
            found,
            "no program on the GPUs",
            "stop it on the server, then run this playbook again.",
        )
    ]


def _wish(want: Mapping[str, Any]) -> tuple[Wish | None, list[str]]:
    def given(name: str) -> str | None:
        text = str(want.get(name) or "").strip()
        return None if text in ("", "auto") else text

    exact, branch = given("version"), given("branch")
    contradiction = None
    if branch and not branch.isdigit():
        contradiction = (f"nvidia_driver_branch={branch}", "a number such as 580, or auto")
    elif exact and branch_of(exact) is None:
        contradiction = (f"nvidia_driver_version={exact}", "a driver version such as 580.95.05")
    elif exact and branch and branch_of(exact) != int(branch):
        contradiction = (f"nvidia_driver_version={exact} and nvidia_driver_branch={branch}", "a version of that branch")
    if contradiction:
        return None, [
            refusal("BP121", "driver variables do not fit", *contradiction, "correct or remove one in the inventory.")
        ]
    variant = wish_of({"variant": want.get("variant")}).variant
    wished = Wish(
        str(want["source"]),
        branch_of(exact) if exact else int(branch) if branch else None,
        exact,
        given("flavour"),
        str(want.get("fabric_manager", "auto")).lower(),
        load_tables().cuda.get(variant or ""),
    )
    return wished, []


def _needs(gpus: Sequence[Mapping[str, Any]], wish: Wish) -> tuple[DriverNeeds | None, str | None]:
    """What the GPUs need of a driver; None where they are unknown and the inventory names branch and flavour itself."""
    try:
        host = host_of(load_tables(), {"gpus": gpus})
    except StackError as error:
        if wish.branch and wish.flavour:
            return None, None
        return None, refusal(
            "BP124",
            "no driver known for this GPU",
            error.cause,
            "a GPU of the resolver's data",
            "name the driver yourself: nvidia_driver_branch and nvidia_driver_flavour, as its maker says.",
        )
    needs = driver_needs(host.models)
    if not needs.possible:
        fix = "put these GPUs into different servers."
        return None, refusal("BP124", "no one driver serves these GPUs", each_need(host.models), "a common driver", fix)
    return needs, None


def _contradictions(wish: Wish, needs: DriverNeeds | None, gpus: Sequence[Mapping[str, Any]]) -> list[str]:
    """Refusals of a wish no package can fulfil: GPU against branch and flavour, branch against flavour and CUDA."""
    tables, said = load_tables(), []
    branch = tables.branches.get(wish.branch or 0)
    if needs and wish.flavour and wish.flavour not in needs.flavours:
        said.append((f"nvidia_driver_flavour={wish.flavour}", f"the {needs.flavours[0]} modules: {_each(gpus)}"))
    if needs and wish.branch and not needs.floor.major <= wish.branch <= (needs.ceiling or wish.branch):
        said.append((f"nvidia_driver_branch={wish.branch}", f"a branch that drives them: {_each(gpus)}"))
    elif needs and wish.version and version(wish.version) < needs.floor:
        said.append((f"nvidia_driver_version={wish.version}", f"{needs.floor} or newer: {_each(gpus)}"))
    if branch and wish.flavour and not branch_has(branch, wish.flavour):
        said.append((f"nvidia_driver_flavour={wish.flavour}", f"a flavour that R{branch.number} has"))
    if branch and wish.cuda and branch.last_known < wish.cuda.min_driver:
        found = f"nvidia_driver_branch={branch.number} and pytorch_variant={wish.cuda.variant}"
        said.append((found, f"driver {wish.cuda.min_driver} or newer for that variant"))
    fix = "correct it in the inventory, or set it to auto."
    return [refusal("BP121", "driver variables do not fit", found, wanted, fix) for found, wanted in said]


def _each(gpus: Sequence[Mapping[str, Any]]) -> str:
    said: str = each_need(host_of(load_tables(), {"gpus": gpus}).models)
    return said


def _present(probe: Mapping[str, Any], receipt: Mapping[str, Any]) -> Present | None:
    """The driver that is there: the module on disk, which the next boot loads, before the one loaded now."""
    loaded, disk = probe.get("nvidia_module"), probe.get("nvidia_module_on_disk")
    module = disk or loaded
    packaged = any(is_driver_package(name) for name in probe.get("packages") or {})
    libraries = probe.get("nvidia_userspace")
    if not module and libraries and not packaged:
        # NVIDIA's installer left its libraries; its module is missing for this kernel.
        return Present(libraries["version"], None, False, False, None)
    if not module:
        return None
    managed = receipt.get("source") if receipt.get("version") == module["version"] else None
    running = (loaded or {}).get("version") == module["version"]
    source = managed if managed in ("distribution", "nvidia") else None
    return Present(module["version"], module.get("flavour"), running, packaged, source)


def _against_wish(present: Present, wish: Wish) -> bool:
    """Whether the inventory names another driver than the present one."""
    flavour = wish.flavour if present.flavour else None
    named = (wish.version, wish.branch, flavour)
    return named != (
        wish.version and present.version,
        wish.branch and branch_of(present.version),
        flavour and present.flavour,
    )


def _misfit(present: Present, wish: Wish, needs: DriverNeeds | None) -> str | None:
    """What was wanted instead of the present driver; None if it will do."""
    if wish.version and wish.version != present.version:
        return wish.version
    if wish.branch and branch_of(present.version) != wish.branch:
        return f"R{wish.branch}"
    if wish.flavour and present.flavour and wish.flavour != present.flavour:
        return f"the {wish.flavour} modules"
    found = version(present.version)
    if needs and (found < needs.floor or found.major > (needs.ceiling or found.major)):
        return f"a driver for these GPUs: {needs}"
    if needs and present.flavour and present.flavour not in needs.flavours:
        return f"the {needs.flavours[0]} modules, the only ones for these GPUs"
    if wish.cuda and found < wish.cuda.min_driver:
        return f"{wish.cuda.min_driver} or newer for pytorch_variant={wish.cuda.variant}"
    return None


def _as_present(wish: Wish, present: Present | None, sources: Mapping[str, Any]) -> Wish:
    """A driver that is there and fits is completed, not replaced: the wish becomes what it is."""
    if present is None:
        return wish
    branch = branch_of(present.version)
    source = present.managed or wish.source
    if source == "auto":
        having = [name for name, entry in sources.items() if branch in source_branches(entry)]
        source = having[0] if having else source
    return Wish(source, branch, wish.version, present.flavour or wish.flavour, wish.fabric_manager, wish.cuda)


def _fabric_wanted(probe: Mapping[str, Any], wish: Wish) -> bool:
    if wish.fabric_manager == "auto":
        return bool(probe.get("nvswitches"))
    return wish.fabric_manager in ("true", "yes", "1")


def _install(
    probe: Mapping[str, Any],
    gpus: Sequence[Mapping[str, Any]],
    wish: Wish,
    needs: DriverNeeds | None,
    sources: Mapping[str, Any],
) -> Plan:
    fabric = _fabric_wanted(probe, wish)
    if wish.source == "existing":
        fix = "install a driver by hand and reboot, or set nvidia_driver_source=auto."
        text = refusal("BP120", "no driver loaded", "none", "a loaded driver (nvidia_driver_source=existing)", fix)
        return Plan("none", "no driver is there", problems=[text])
    source, chosen = _choose(gpus, wish, needs, sources, fabric)
    if chosen is None:
        wanted = f"R{wish.branch}" if wish.branch else "a branch for these GPUs"
        wanted += f" with the {wish.flavour} modules" if wish.flavour else ""
        wanted += " and its Fabric Manager" if fabric else ""
        has = "; ".join(
            f"{name}: {', '.join(f'R{branch}' for branch in source_branches(entry)) or 'none'}"
            for name, entry in sources.items()
        )
        fix = "set nvidia_driver_source and nvidia_driver_branch to a pair that goes together, or to auto."
        text = refusal("BP122", "no source has this driver", f"nvidia_driver_source={wish.source} ({has})", wanted, fix)
        return Plan("none", "no source has this driver", problems=[text])
    branch, flavour, at_least = chosen
    packages = package_set(sources[source], branch, flavour, probe, fabric)
    return Plan(
        "ensure",
        f"driver R{branch} with the {flavour} modules from {sources[source]['title']}",
        source,
        str(branch),
        flavour,
        wish.version,
        at_least,
        fabric,
        _arguments(packages),
    )


def _choose(
    gpus: Sequence[Mapping[str, Any]],
    wish: Wish,
    needs: DriverNeeds | None,
    sources: Mapping[str, Any],
    fabric: bool,
) -> tuple[str, tuple[int, str, str | None] | None]:
    """Source and (branch, flavour, oldest version that will do). auto: the distribution if it has the recommended branch."""
    names = [name for name in sources if wish.source in ("auto", name)]
    offered = {
        name: {
            branch for branch in source_branches(sources[name], fabric, wish.flavour) if wish.branch in (None, branch)
        }
        for name in names
    }
    if needs is None and wish.branch and wish.flavour:
        having = [name for name in names if wish.branch in offered[name]]
        return (having[0], (wish.branch, wish.flavour, None)) if having else ("", None)
    want = {"variant": wish.cuda.variant} if wish.cuda else {}
    plan = plan_driver({"gpus": gpus}, want, branches=set().union(*offered.values()))
    if plan is None:
        return "", None
    branch = plan.branch.number
    flavour = wish.flavour or plan.flavour
    having = [name for name in names if branch in source_branches(sources[name], fabric, flavour)]
    if not having:
        return "", None
    return having[0], (branch, flavour, plan.at_least.text if plan.at_least else None)


def _arguments(packages: PackageSet) -> dict[str, Any]:
    return dict(vars(packages))
