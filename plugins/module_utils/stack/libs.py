"""Whether the libraries on top of torch fit it, the Python, the GPUs and the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .findings import Finding, Problem
from .host import Host, dotted
from .stacks import Stack
from .tables import Capability, Cuda, Library, LibraryRow, Release, Tables
from .versions import Version, in_span, satisfies, version

# Released together with a torch.
COMPANIONS = ("torchvision", "torchaudio", "triton")
Note = Problem | str  # a problem, a warning in words, or a doubt: "uncertain: …"


def libraries_finding(tables: Tables, host: Host, stack: Stack, release: Release) -> Finding:
    """Whether every wished library fits. A library or version the data does not know is a warning, never a silent yes."""
    cuda = tables.cuda.get(stack.variant)
    notes: list[Note] = []
    for name, wanted in stack.libs.items():
        if name in COMPANIONS:
            notes += _companion_notes(tables, host, stack, release, name, wanted)
        elif name in tables.libraries:
            notes += _library_notes(host, stack, release, cuda, tables.libraries[name], wanted)
        else:
            notes.append(f"{name} is not in the data, so it was not compared")
    listed = ", ".join(f"{name} {wanted or '(any)'}" for name, wanted in stack.libs.items())
    return Finding(
        f"libraries: {listed}" if listed else "",
        tuple(note for note in notes if isinstance(note, Problem)),
        tuple(note for note in notes if isinstance(note, str) and not note.startswith("uncertain:")),
        tuple(note for note in notes if isinstance(note, str) and note.startswith("uncertain:")),
    )


def _companion_notes(
    tables: Tables, host: Host, stack: Stack, release: Release, name: str, wanted: Version | None
) -> Iterator[Note]:
    """torchvision, torchaudio and triton are released with a torch and pin it."""
    partner = release.companions.get(name)
    # triton's pin is read from the x86_64 wheel alone.
    if partner is None or (name == "triton" and host.arch != "x86_64"):
        yield f"uncertain: which {name} goes with torch {release.version} is not known"
        return
    chosen = wanted or partner
    rules = [rule for rule in tables.companion_rules if rule.name == name and in_span(chosen, rule.span)]
    local = chosen.text.partition("+")[2]
    if local and local != stack.variant:
        yield Problem("lib_conflict", f"{name} {chosen} was built for {local}, torch is {stack.variant}")
    if chosen.parts != partner.parts and not any(
        satisfies(release.version, rule.torch) for rule in rules if not rule.refused_python
    ):
        yield Problem("lib_conflict", f"torch {release.version} goes with {name} {partner}, not {chosen}")
    elif name in release.companions_uncertain:
        yield f"uncertain: {name} {chosen} with torch {release.version}"
    for rule in rules:
        if host.python and host.python.text in rule.refused_python:
            yield Problem("lib_conflict", f"{name} {chosen} refuses Python {host.python}")


def _library_notes(
    host: Host, stack: Stack, release: Release, cuda: Cuda | None, library: Library, wanted: Version | None
) -> Iterator[Note]:
    name = f"{library.name} {wanted or ''}".strip()
    if library.status:
        yield f"{library.name} is {library.status}"
    if library.needs_cuda and cuda is None:
        yield Problem("lib_conflict", f"{library.name} needs a CUDA build of torch, not {stack.variant}")
    row, known = _row_of(library, wanted)
    if row is None:
        yield from _between_rows(library, release, wanted, name)
    else:
        yield from _row_notes(host, release, cuda, row, name)
    limits = [limit for limit in library.limits if wanted and in_span(wanted, limit.span)]
    if cuda is not None:
        yield from _capability_notes(host, library, row, limits, cuda, name)
        for limit in limits:
            yield from _build_notes(host, stack, cuda, limit, name)
    glibc = row.glibc if row and row.glibc else library.glibc
    if glibc and host.glibc and host.glibc < glibc:
        yield Problem("glibc_too_old", f"the wheel of {name} needs glibc {glibc} or newer, the host has {host.glibc}")
    if known == "assumed":
        yield f"uncertain: {name} was not read itself; taken as its neighbours, which pin the same torch"


def _row_of(library: Library, wanted: Version | None) -> tuple[LibraryRow | None, str]:
    """The row of a version. Between two sampled releases that pin the same torch, the older one's row is assumed."""
    if wanted is None:
        # Only a row about every version says something about an unnamed one.
        return next((row for row in library.rows if row.span == "any"), None), "any"
    for row in library.rows:
        if in_span(wanted, row.span):
            return row, "read"
    if library.sampled:
        below, above = _neighbours(library, wanted)
        if below and above and below.torch == above.torch:
            return below, "assumed"
    return None, "unknown"


def _neighbours(library: Library, wanted: Version) -> tuple[LibraryRow | None, LibraryRow | None]:
    below = [row for row in library.rows if _first(row) <= wanted]
    above = [row for row in library.rows if _first(row) > wanted]
    return below[-1] if below else None, above[0] if above else None


def _first(row: LibraryRow) -> Version:
    return version(row.span.split("…")[0])


def _between_rows(library: Library, release: Release, wanted: Version | None, name: str) -> Iterator[Note]:
    """An unread version between two that pin torch exactly: its pin lies between theirs."""
    if wanted is None or not library.rows:
        return
    below, above = _neighbours(library, wanted)
    pins = [version(row.torch[2:]) for row in (below, above) if row and row.torch.startswith("==")]
    if below and above and len(pins) == 2 and not pins[0] <= release.version <= pins[1]:
        text = f"{name} pins a torch between {pins[0]} and {pins[1]}, not {release.version}"
        yield Problem("lib_conflict", text)
    else:
        yield f"{name} is not in the data, so what it needs was not compared"


def _row_notes(host: Host, release: Release, cuda: Cuda | None, row: LibraryRow, name: str) -> Iterator[Note]:
    torch = release.version
    if not satisfies(torch, row.torch):
        yield Problem("lib_conflict", f"{name} needs torch {row.torch}, not {torch}")
    elif row.floor_in_practice and torch < version(row.floor_in_practice):
        yield Problem("lib_conflict", f"{name} needs torch {row.floor_in_practice} or newer to work, not {torch}")
    elif not satisfies(torch, row.extra_torch):
        yield f"{name} was released for torch {row.extra_torch}; newer ones are not refused"
    if host.python and not satisfies(host.python, row.python):
        yield Problem("lib_conflict", f"{name} needs Python {row.python}, not {host.python}")
    if cuda and not satisfies(cuda.version, row.cuda):
        yield Problem("lib_conflict", f"{name} needs CUDA {row.cuda}, not {cuda.version}")
    if row.uncertain:
        yield f"uncertain: what {name} needs" + (f" ({row.note})" if row.note else "")


def _capability_notes(
    host: Host, library: Library, row: LibraryRow | None, limits: Iterable[LibraryRow], cuda: Cuda, name: str
) -> Iterator[Note]:
    floors = [(limit.capability, limit.uncertain) for limit in limits if limit.capability]
    floor, uncertain = next(iter(floors), (row.capability if row and row.capability else library.capability, False))
    if floor is None and row is None:
        # Of an unknown version, what every version needs.
        limited = [limit for limit in library.limits if limit.capability]
        every = [each.capability for each in limited or library.rows]
        floor = min((each for each in every if each), default=None) if all(every) else None
    built = next((lowest for span, lowest in library.builds.get(host.arch, ()) if in_span(cuda.version, span)), None)
    if library.builds and built is None:
        yield f"uncertain: whether {name} has binaries for CUDA {cuda.version} on {host.arch}"
    # The builds are those of today's versions; an old one with a floor of its own had others.
    if row and row.capability:
        built = None
    lowest = max((each for each in (floor, built) if each), default=None)
    for gpu in host.models:
        needs = _needs(gpu.capability, lowest, row)
        if needs:
            text = f"{name} needs compute capability {needs}, {gpu.names[0]} has {dotted(gpu.capability)}"
            yield Problem("gpu_below_lib_min", text, frozenset({gpu.id}))
            if uncertain:
                yield f"uncertain: in which release {library.name} raised its floor to {needs}"


def _needs(capability: Capability, lowest: Capability | None, row: LibraryRow | None) -> str | None:
    """What a GPU falls short of, None if nothing."""
    if lowest and capability < lowest:
        return f"{dotted(lowest)} or newer"
    if row and row.only_capabilities and capability not in row.only_capabilities:
        return " or ".join(map(dotted, row.only_capabilities))
    return None


def _build_notes(host: Host, stack: Stack, cuda: Cuda, limit: LibraryRow, name: str) -> Iterator[Note]:
    """A library built against one CUDA major: its driver floor, and which of its builds torch's variant needs."""
    if limit.cuda_major is None or limit.driver is None:
        return
    if stack.variant == limit.other_build:
        yield f"take the {limit.other_build} build of {name}; its default wheel is for CUDA {limit.cuda_major}"
    elif host.driver and host.driver < limit.driver and host.compat is None:
        text = f"the wheel of {name} needs driver {limit.driver} or newer, found {host.driver}"
        yield Problem("driver_too_old_for_cuda", text)
    elif cuda.version.major != limit.cuda_major:
        yield f"the default wheel of {name} is for CUDA {limit.cuda_major}; with {stack.variant} take a build for CUDA {cuda.version}"
