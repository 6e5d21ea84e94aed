"""Check the proofs: compile every .v file here with Coq, and say on which axioms the theorems rest.

Run ``python docs/proofs/check.py``. It needs Coq 8.16 with Coquelicot 3.2 (Debian: coq, libcoq-coquelicot). Without
them it only reads the files, says so in one line, and succeeds, unless ``--require`` or REFRM_REQUIRE_COQ=1 says that
they must be there. All work is done in a temporary directory.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}
"""The axioms of the real numbers of Coq's standard library and of its classical analysis."""

FORBIDDEN = re.compile(
    r"\b(Admit(?:ted)?|admit|give_up|Abort|Axioms?|Parameters?|Conjectures?|Hypothes[ie]s|Variables?|Context|Declare"
    r"|Primitive|Load|Unset|bypass_check|Redirect|Extraction|Cd|Notation|Infix|Coercion|Canonical)\b"
)
"""What could leave a proof open, assume something, switch a check off, write a file or change what signs mean."""

TIMEOUT = 600
PASS = ["-q", "-w", "+default,-ambiguous-paths,-deprecated", "-Q", ".", "Refrm"]


class Rejected(Exception):
    """The proofs do not pass; the message says why."""


def uncommented(text):
    """Return Coq text without its comments, which may be nested, and without the contents of its strings."""
    kept, depth = [], 0
    for token in re.findall(r'\(\*|\*\)|"(?:[^"]|"")*"|.', text, re.S):
        if token == "(*":
            depth += 1
        elif token == "*)" and depth:
            depth -= 1
        elif not depth:
            kept.append('""' if token[0] == '"' and len(token) > 1 else token)
    return "".join(kept)


def statements(text):
    """Return {name: statement} of the marked parts of a file, without the markers."""
    parts = re.findall(r"^\(\* begin: (\w+) \*\)\n(.*?)^\(\* end: (\w+) \*\)$", text, re.S | re.M)
    for begin, _, end in parts:
        if begin != end:
            raise Rejected(f"the marker 'begin: {begin}' is followed by 'end: {end}'")
    if len(parts) != text.count("(* begin: ") or len(parts) != text.count("(* end: "):
        raise Rejected("a marker 'begin' or 'end' stands alone")
    return {name: statement for name, statement, _ in parts}


def theorems(text):
    """Return the names of the theorems of a file. Each stands between its markers, and they hold it alone."""
    marked = [
        (name, re.findall(r"^(?:Theorem|Lemma|Corollary)\s+(\w+)", uncommented(part), re.M))
        for name, part in statements(text).items()
    ]
    for name, found in marked:
        if found not in ([], [name]):
            raise Rejected(f"the markers {name} hold {', '.join(found)}")
    names = [name for name, found in marked if found]
    every = re.findall(r"^Theorem\s+(\w+)", uncommented(text), re.M)
    if every != names:
        raise Rejected(f"theorems without markers of their own: {', '.join(sorted(set(every) ^ set(names)))}")
    for name in names:
        if not re.fullmatch(r"T[1-9]\d*_\w+", name):
            raise Rejected(f"theorem {name}: its name does not begin with an id such as T1_")
    return names


def read(folder):
    """Return {module: (text, modules that it needs, its theorems)}, or raise `Rejected`."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.v"))}
    if not texts:
        raise Rejected(f"{folder}: no .v files")
    found = {}
    for module, text in texts.items():
        bare = uncommented(text)
        if words := sorted(set(FORBIDDEN.findall(bare))):
            raise Rejected(f"{module}.v: {', '.join(words)} must not occur")
        needs = re.findall(r"From\s+Refrm\s+Require\s+(?:Import|Export)?\s*([\w\s]+)\.", bare)
        try:
            found[module] = text, {name for part in needs for name in part.split()}, theorems(text)
        except Rejected as error:
            raise Rejected(f"{module}.v: {error}") from None
    return found


def axioms(output):
    """Return the names that an output of Print Assumptions lists, in order."""
    lines = [line for line in output.splitlines() if line and not line[0].isspace()]
    if lines == ["Closed under the global context"]:
        return []
    if not lines or lines[0] != "Axioms:":
        raise Rejected(f"not understood: {output!r}")
    return sorted(line.split()[0] for line in lines[1:])


def coqc(place, module):
    """Compile one module in the directory ``place``."""
    env = {key: value for key, value in os.environ.items() if key not in ("COQPATH", "COQFLAGS")}
    try:
        done = subprocess.run(
            ["coqc", *PASS, f"{module}.v"], cwd=place, env=env, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise Rejected(f"{module}.v: not done after {TIMEOUT} s") from None
    if done.returncode:
        raise Rejected(f"{module}.v: coqc does not accept it\n{(done.stdout + done.stderr).strip()}")


def compile_all(place, modules, workers=2):
    """Compile the modules in ``place``, each after those that it needs, ``workers`` at a time."""
    waiting, done, running = dict(modules), set(), {}
    with ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            for name in [name for name, (_, needs, _) in waiting.items() if needs <= done]:
                del waiting[name]
                running[pool.submit(coqc, place, name)] = name
            if not running:
                raise Rejected(f"{', '.join(waiting)}: need a file that is not there, or each other")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                future.result()
                done.add(name)


def rests_on(place, where):
    """Return the axioms that the compiled theorems {name: module}, taken together, rest on."""
    lines = [f"From Refrm Require {module}." for module in sorted(set(where.values()))]
    # Nothing is imported, so that no notation of a file can change what is meant or printed.
    lines.append(f"Definition all := ({', '.join(f'@Refrm.{module}.{name}' for name, module in where.items())}).")
    lines.append('Redirect "axioms" Print Assumptions all.')
    Path(place, "Assumptions.v").write_text("\n".join(lines), encoding="utf-8")
    coqc(place, "Assumptions")
    return axioms(Path(place, "axioms.out").read_text(encoding="utf-8"))


def check(folder):
    """Compile all proofs of a folder; return {theorem: its module} and their axioms, or raise `Rejected`."""
    modules = read(folder)
    where = {theorem: name for name, (_, _, names) in modules.items() for theorem in names}
    if sum(len(names) for _, _, names in modules.values()) != len(where):
        raise Rejected("two theorems have the same name")
    with tempfile.TemporaryDirectory() as place:
        for name, (text, _, _) in modules.items():
            Path(place, f"{name}.v").write_text(text, encoding="utf-8")
        compile_all(place, modules)
        found = rests_on(place, where)
        if extra := set(found) - ALLOWED:
            guilty = [name for name, module in where.items() if extra & set(rests_on(place, {name: module}))]
            raise Rejected(f"{', '.join(guilty)}: not without {', '.join(sorted(extra))}")
    return where, found


def missing():
    """Return what of Coq is not there, or ''."""
    if not shutil.which("coqc"):
        return "coqc"
    library = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip()
    return "" if Path(library, "user-contrib", "Coquelicot").is_dir() else "Coquelicot"


def main(arguments=None):
    """Run the check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=Path(__file__).parent, help="where the .v files are")
    parser.add_argument("--require", action="store_true", help="fail where Coq is missing")
    options = parser.parse_args(arguments)
    try:
        if what := missing():
            read(options.folder)
            must = options.require or os.environ.get("REFRM_REQUIRE_COQ") == "1"
            print(
                f"proofs {'not checked' if must else 'skipped'}: {what} is missing (Debian: coq, libcoq-coquelicot)",
                file=sys.stderr if must else sys.stdout,
            )
            return int(must)
        where, found = check(options.folder)
    except Rejected as error:
        print(f"proofs rejected: {error}", file=sys.stderr)
        return 1
    for name in sorted(where, key=lambda name: (int(re.search(r"\d+", name)[0]), name)):
        print(f"{name}: proven ({where[name]}.v)")
    print(f"{len(where)} theorems without gaps; axioms: {', '.join(found) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
