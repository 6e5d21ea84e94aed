"""Import one module of an installed package whose other dependencies (GPU kernels, clusters) are not installed.

Two things are replaced, and named by each adapter that needs them, so that a reader sees what was not shipped code:

- `bare`: packages whose `__init__` is not run. Their submodules load from the installed files as usual.
- `inert`: distributions that are absent. Every name imported from them is an empty class, of no effect when it is
  a base class or a decorator, and an error when the code that is judged touches it.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType


class _Inert(type):
    """The metaclass of stand-ins: any attribute is another stand-in, so that a chain of names imports."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _stand_in(name)


def _stand_in(name: str) -> type:
    def decorate_or_fail(cls, *args, **kwargs):
        if len(args) == 1 and not kwargs and callable(args[0]):
            return args[0]  # used as a decorator
        if cls.__dict__.get("_stand_in"):
            return decorate_or_fail.__get__(cls)  # called with settings, it gives a decorator
        return object.__new__(cls)  # a shipped class that has a stand-in for a base

    members = {"_stand_in": True, "__new__": decorate_or_fail, "__init__": lambda self, *args, **kwargs: None}
    return _Inert(name, (), members)


class _InertModule(ModuleType):
    __path__ = ()  # a package: its submodules are asked of the finder

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return _stand_in(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, bare: tuple[str, ...], inert: tuple[str, ...]):
        self.bare, self.inert = bare, inert

    def find_spec(self, name, path=None, target=None):
        if name in self.bare:
            found = importlib.machinery.PathFinder.find_spec(name, path)
            if found is None:
                return None
            spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
            spec.submodule_search_locations = found.submodule_search_locations
            return spec
        if any(name == root or name.startswith(root + ".") for root in self.inert):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return ModuleType(spec.name) if spec.name in self.bare else _InertModule(spec.name)

    def exec_module(self, module):
        pass


def load(name: str, *, bare: tuple[str, ...] = (), inert: tuple[str, ...] = ()) -> ModuleType:
    """Import module `name` from the installed distribution; a distribution in `inert` must not be installed."""
    for root in inert:
        if "." not in root and importlib.util.find_spec(root) is not None:
            raise ImportError(f"{root} is installed: it needs no stand-in")
    finder = _Finder(bare, inert)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)
        for module in [m for m in sys.modules if isinstance(sys.modules[m], _InertModule)]:
            del sys.modules[module]  # another import must not find a stand-in
