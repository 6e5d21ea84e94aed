"""Calling an implementation that is not ours: in its own framework, with its gradients, and whatever it does.

An `Implementation` takes and returns NumPy arrays. What a call may do wrong (raise, hang, print, return something
else, change its inputs) becomes a `Fault` or an entry of `Implementation.seen`; it never ends the check.
"""

import contextlib
import contextvars
import inspect
import io
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from refrm.errors import InputError
from refrm.oracle.forms import Outcome
from refrm.oracle.signature import margin_keyword
from refrm.spec import Array

KNOWN = ("numpy", "torch", "jax")


class Fault(Exception):
    """What a call did instead of returning a loss: ``kind`` is "raises", "hangs", "type" or "shape"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _TimeLimit(BaseException):
    """Raised inside a call that takes too long; not an Exception, so that the call does not catch it."""


def _limited(call: Callable[[], Any], seconds: float) -> Any:
    """Return call(), or raise `_TimeLimit`: by a signal in the main thread, elsewhere by leaving a thread behind."""
    seconds = min(seconds, 1e9)  # more than that is out of range for the timers
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():

        def stop(*_: object) -> None:
            raise _TimeLimit

        before = signal.signal(signal.SIGALRM, stop)
        timer = signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, before)
    result: list[Any] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result.append((context.run(call), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not result:
        raise _TimeLimit
    if result[0][1] is not None:
        raise result[0][1]
    return result[0][0]


class Framework:
    """NumPy; the others differ in how an array is made, read and differentiated."""

    name, autograd, strided, compiles = "numpy", False, True, False

    def make(self, x: Array, dtype: str) -> Any:
        """Return the array of this framework."""
        if dtype == "bfloat16":
            raise Fault("type", "NumPy has no bfloat16")
        return x.astype(dtype)  # always a copy: what the implementation does to it stays its own

    def read(self, x: Any) -> Array:
        """Return a NumPy array."""
        return np.asarray(x)

    def dtype(self, x: Any) -> str:
        """Return the name of an array's dtype."""
        return str(getattr(x, "dtype", "float64")).rpartition(".")[2]

    def owns(self, x: Any) -> bool:
        """Return whether x is an array of this framework."""
        return True

    def grad(self, f: Callable[..., Any], args: list[Any]) -> tuple[Any, Any, Any]:
        """Return f(*args) and the gradients of its sum in the first two arguments."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the framework as it was."""


class _Torch(Framework):
    name, autograd = "torch", True

    def __init__(self) -> None:
        self.torch = import_module("torch")
        self.threads = self.torch.get_num_threads()
        self.torch.set_num_threads(1)  # batches are small, and threads that wait for each other cost seconds

    def make(self, x: Array, dtype: str) -> Any:
        return self.torch.tensor(x, dtype=getattr(self.torch, dtype))

    def owns(self, x: Any) -> bool:
        return isinstance(x, self.torch.Tensor)

    def close(self) -> None:
        self.torch.set_num_threads(self.threads)

    def read(self, x: Any) -> Array:
        if not self.owns(x):
            return np.asarray(x)
        x = x.detach().cpu()
        return np.asarray((x.float() if x.dtype == self.torch.bfloat16 else x).numpy())

    def grad(self, f: Callable[..., Any], args: list[Any]) -> tuple[Any, Any, Any]:
        sides = [x.detach().requires_grad_(True) for x in args[:2]]
        with self.torch.enable_grad():
            loss = f(*sides, *args[2:])
            if not (isinstance(loss, self.torch.Tensor) and loss.requires_grad):
                return (loss, *(self.torch.zeros_like(x) for x in sides))
            found = self.torch.autograd.grad(loss.sum(), sides, allow_unused=True)
        g_w, g_l = (self.torch.zeros_like(x) if g is None else g for g, x in zip(found, sides, strict=True))
        return loss, g_w, g_l


class _Jax(Framework):
    name, autograd, strided, compiles = "jax", True, False, True

    def __init__(self) -> None:
        self.jax = import_module("jax")
        self.narrow = not self.jax.config.jax_enable_x64
        self.jax.config.update("jax_enable_x64", True)  # float64 is float64 while the check lasts
        self.compiled: Callable[..., Any] | None = None
        self.traceable = True

    def make(self, x: Array, dtype: str) -> Any:
        return self.jax.numpy.asarray(x).astype(dtype)

    def read(self, x: Any) -> Array:
        narrow = str(getattr(x, "dtype", "")) == "bfloat16"
        return np.asarray(x.astype("float32") if narrow else x)

    def grad(self, f: Callable[..., Any], args: list[Any]) -> tuple[Any, Any, Any]:
        def both(*args: Any) -> Any:
            loss, back = self.jax.vjp(lambda w, v: f(w, v, *args[2:]), *args[:2])
            return (loss, *back(self.jax.numpy.ones_like(loss)))

        if self.traceable:  # one compilation for each shape, not one for each operation
            self.compiled = self.compiled or self.jax.jit(both)
            try:
                return self.compiled(*args)  # type: ignore[no-any-return]
            except self.jax.errors.JAXTypeError:  # what cannot be traced is run as it is
                self.traceable = False
        return both(*args)  # type: ignore[no-any-return]

    def owns(self, x: Any) -> bool:
        return isinstance(x, self.jax.Array)

    def close(self) -> None:
        if self.narrow:
            self.jax.config.update("jax_enable_x64", False)


class _ArrayApi(Framework):
    """Any module of the array API standard, or with ``from_dlpack``; no gradients but those that are returned."""

    strided = False

    def __init__(self, name: str) -> None:
        self.name, self.module = name, import_module(name)
        if not hasattr(self.module, "float64"):
            raise InputError(f"framework {name!r} is no array module: it has no float64")

    def make(self, x: Array, dtype: str) -> Any:
        if not hasattr(self.module, dtype):
            raise Fault("type", f"{self.name} has no {dtype}")
        x = np.ascontiguousarray(x)
        if hasattr(self.module, "asarray"):
            return self.module.asarray(x, dtype=getattr(self.module, dtype))
        return self.module.from_dlpack(x)

    def read(self, x: Any) -> Array:
        return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)


def framework(name: str) -> Framework:
    """Return a framework by its name: numpy, torch, jax, or any module of the array API standard."""
    try:
        made = {"numpy": Framework, "torch": _Torch, "jax": _Jax}.get(name)
        return made() if made else _ArrayApi(name)
    except ImportError as error:
        raise InputError(f"framework {name!r} cannot be imported: {error}") from None


def _names(f: Callable[..., Any]) -> list[str]:
    """Return the frameworks that the code of f uses, then those of its module, then those that are loaded."""
    body = inspect.unwrap(f)
    body = getattr(body, "func", body)  # of functools.partial
    if not hasattr(body, "__code__"):  # an object: PyTorch modules say more in forward than in __call__
        body = getattr(body, "forward", getattr(type(body), "__call__", body))  # noqa: B004
    body = getattr(body, "__func__", body)
    space, used = getattr(body, "__globals__", {}), getattr(getattr(body, "__code__", None), "co_names", ())

    def known(things: Any) -> list[str]:
        paths = (x.__name__ if inspect.ismodule(x) else str(getattr(x, "__module__", "")) for x in things)
        roots = sorted({path.partition(".")[0] for path in paths})
        return [r for r in roots if r in KNOWN or hasattr(sys.modules.get(r), "__array_api_version__")]

    cells = [cell.cell_contents for cell in getattr(body, "__closure__", None) or () if _filled(cell)]
    first = known([*(space[name] for name in used if name in space), *cells])
    second = known([*space.values(), f])
    # NumPy is in most modules: it comes first only where nothing else is used.
    first.sort(key=lambda name: name == "numpy")
    loaded = [name for name in KNOWN if name in sys.modules]
    return list(dict.fromkeys([*first, *sorted(second, key=lambda name: name == "numpy"), "numpy", *loaded]))


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


class Implementation:
    """A loss under test, called with NumPy arrays.

    Parameters
    ----------
    f : callable
        Of (r_w, r_l) or (r_w, r_l, margin); returns the loss, (loss, g_w, g_l) or (loss, (g_w, g_l)).
    name : str, optional
        Of the framework; found by trying where it is None.
    margin : bool
        Whether f takes margins.
    gradients : bool, optional
        False: judge values alone. None: take gradients where there are any.
    time_limit : float
        Seconds for one call.
    """

    def __init__(
        self, f: Callable[..., Any], name: str | None, margin: bool, gradients: bool | None, time_limit: float
    ) -> None:
        keyword = margin_keyword(f)
        self.f: Callable[..., Any] = f
        if keyword and margin:
            self.f = lambda w, v, m: f(w, v, **{keyword: m})
        self.margin, self.time_limit = margin, time_limit
        self.seen: dict[str, str] = {}  # "prints", "mutates": the first time
        self.gradients, self.column, self.calls = "none", False, 0
        self.framework = self._found([name] if name else _names(f), gradients)

    def _found(self, names: list[str], gradients: bool | None) -> Framework:
        """Return the first framework in which f returns, with gradients if it can be; `Fault` if there is none."""
        x, first, why = np.array([1.0, 0.5, -1.0]), None, ""
        args = [x, x[::-1].copy(), 0 * x][: 2 + self.margin]
        for strict in (True, False):  # at last, without gradients
            for name in names:
                self.framework = framework(name)
                for dtype, self.column in (("float64", False), ("float32", False), ("float64", True)):
                    try:
                        returned = self._call(*args, dtype=dtype, raw=True)
                        pair = isinstance(returned, tuple | list) and len(returned) in (2, 3)
                        pair = pair and returned[-1] is not None
                        auto = self.framework.autograd and not pair and gradients is not False and strict
                        if auto and not self.framework.owns(returned):
                            raise Fault("type", f"returned {type(returned).__name__}, which has no gradient")
                        if auto:
                            self._call(*args, dtype=dtype, grad=True)
                    except Fault as fault:
                        first = first or Fault(fault.kind, f"with {name} arrays, it {fault}")
                        why = why or (f"with {name} arrays, it {fault}" if self.framework.autograd and strict else "")
                        if fault.kind == "hangs":
                            self.framework.close()
                            raise
                    else:
                        self.gradients = (
                            "autograd" if auto else "returned" if pair and gradients is not False else "none"
                        )
                        if self.gradients == "none" and why and gradients is not False:
                            self.seen["no gradients"] = why
                        return self.framework
                self.framework.close()
        raise first or Fault("type", "no framework")

    def __call__(
        self, r_w: Array, r_l: Array, margin: Array | None = None, dtype: str = "float64", layout: str = "plain"
    ) -> tuple[Outcome, str]:
        """Return loss and gradients as NumPy arrays, and the name of the loss's dtype; ``layout`` as in `_laid`."""
        if self.margin and margin is None:
            margin = np.zeros_like(r_w)
        args = [r_w, r_l] + ([margin] if self.margin and margin is not None else [])
        returned = self._call(*args, dtype=dtype, layout=layout, grad=self.gradients == "autograd")
        loss, g_w, g_l = returned if isinstance(returned, tuple) else (returned, None, None)
        try:
            arrays = [None if x is None else self.framework.read(x) for x in (loss, g_w, g_l)]
        except Exception as error:
            raise Fault("type", f"returned {type(loss).__name__}, which is no array: {error}") from None
        for x in arrays:
            if x is not None and x.dtype.kind not in "fiu":
                raise Fault("type", f"returned {type(loss).__name__}; expected the loss, or (loss, g_w, g_l)")
        value, *grads = arrays
        if value is None:
            raise Fault("type", "returned None; expected the loss, or (loss, g_w, g_l)")
        if (self.column or layout == "column") and value.shape == (r_w.size, 1):
            value = value[:, 0]
        if value.size == 1 and r_w.size > 1:
            value = value.reshape(())  # a mean with keepdims is a scalar all the same
        for x in grads:
            if x is not None and x.size != r_w.size:
                raise Fault("shape", f"returned a gradient of shape {x.shape} for scores of shape {r_w.shape}")
        g_w, g_l = (None if x is None else x.reshape(-1) for x in grads)
        return Outcome(value, g_w, g_l), self.framework.dtype(loss)

    def _laid(self, x: Array, dtype: str, layout: str) -> Any:
        """Return an array of the framework: "plain", "strided" (every second element of a longer one) or "column"."""
        if layout == "strided":
            return self.framework.make(np.repeat(x, 2), dtype)[::2]
        return self.framework.make(x[:, None] if self.column or layout == "column" else x, dtype)

    def _call(self, *args: Array, dtype: str, layout: str = "plain", raw: bool = False, grad: bool = False) -> Any:
        """Return what f returns, normalised to loss or (loss, g_w, g_l) unless raw."""
        self.calls += 1
        text = io.StringIO()
        try:
            ways = {"scores": ("column", "plain", "plain"), "margins": ("column", "column", "plain")}.get(
                layout, [layout] * 3
            )
            made = [self._laid(x, dtype, way) for x, way in zip(args, ways, strict=False)]
            before = [self.framework.read(x).tobytes() for x in made]
            with (
                contextlib.redirect_stdout(text),
                contextlib.redirect_stderr(text),
                warnings.catch_warnings(),
                np.errstate(all="ignore"),
            ):
                warnings.simplefilter("ignore")
                call = (lambda: self.framework.grad(self.f, made)) if grad else (lambda: self.f(*made))
                returned = _limited(call, self.time_limit)
        except Fault:
            raise
        except _TimeLimit:
            raise Fault("hangs", f"took more than {self.time_limit:g} s for {args[0].size} pairs") from None
        except (Exception, SystemExit) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())[:200]
            raise Fault(
                "raises", f"raised {type(error).__name__}: {said} (line {where.lineno}, {where.name})"
            ) from None
        if text.getvalue() and "prints" not in self.seen:
            self.seen["prints"] = text.getvalue()[:80]
        if "mutates" not in self.seen and before != [self.framework.read(x).tobytes() for x in made]:
            self.seen["mutates"] = f"inputs of {args[0].size} pairs"
        if not raw and isinstance(returned, tuple | list):
            nested = len(returned) == 2 and isinstance(returned[1], tuple | list)
            flat = [returned[0], *returned[1]] if nested else [*returned]
            if len(flat) != 3:
                raise Fault("type", f"returned {len(returned)} things; expected the loss, or (loss, g_w, g_l)")
            return tuple(flat) if self.gradients != "none" else flat[0]
        return returned
