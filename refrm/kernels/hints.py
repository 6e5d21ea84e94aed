"""What a kernel tells the compiler and the processor beyond what it computes. Uncompiled, nothing."""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

ir: Any = cgutils.ir  # type: ignore[attr-defined]


def hint(typing: Callable[..., Any]) -> Any:
    """Compile calls of this into what ``typing`` says; uncompiled they do nothing."""
    return intrinsic(typing) if not getattr(config, "DISABLE_JIT", 0) else lambda *arguments: None


@hint
def prefetch(context: Any, address: Any) -> Any:  # pragma: no cover - runs in the compiler
    """Begin to load 64 bytes into the second-level cache; any address will do."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, number = ir.PointerType(ir.IntType(8)), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place], kind)
        builder.call(function, [builder.inttoptr(arguments[0], place), number(0), number(2), number(1)])

    return types.void(types.intp), generate


@hint
def apart(context: Any) -> Any:  # pragma: no cover - runs in the compiler
    """Promise that no array which the calling function writes overlaps another (C's restrict), and let it have vectors
    of 256 bits: Zen 4 converts float32 in longer ones at half the speed.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="256"')  # llvmlite lists only some of LLVM's
        for argument in builder.function.args:
            if argument.type.is_pointer:
                argument.add_attribute("noalias")

    return types.void(), generate
