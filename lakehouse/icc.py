"""Whether an ICC colour profile is sRGB under whatever name, so that nothing needs converting.

Only profiles of the common kind are understood: three primaries and a curve for each (ICC.1:2022, clause 8.3.3).
Whatever else a profile holds, it is left to a colour management library.
"""

import struct
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_MAX_PROFILE_BYTES = 65_536
_TAGS_START = 128
_MAX_TAGS = 64
_PRIMARIES = (
    (b"rXYZ", (0.4361, 0.2225, 0.0139)),
    (b"gXYZ", (0.3851, 0.7169, 0.0971)),
    (b"bXYZ", (0.1431, 0.0606, 0.7139)),
)
"""sRGB's primaries adapted to D50, as every sRGB profile has them to about three digits."""
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_PRIMARY_TOLERANCE = 0.003
_CURVE_TOLERANCE = 0.01
_STEPS = np.linspace(0, 1, 33)
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}
"""How many parameters a parametric curve has, by its function type (clause 10.18)."""

Curve = npt.NDArray[np.float64]


@lru_cache(maxsize=64)
def is_srgb(profile: bytes) -> bool:
    """Tell whether a profile means sRGB (IEC 61966-2-1), to within what eight bits can show.

    Args:
        profile: The whole profile; anything broken is not sRGB, nor is anything so large that it must hold more.
    """
    if len(profile) > _MAX_PROFILE_BYTES:
        return False
    try:
        tags = _list_tags(profile)
        if profile[16:20] != b"RGB " or b"A2B0" in tags:
            return False
        has_primaries = all(
            np.allclose(_read_xyz(tags[name]), xyz, atol=_PRIMARY_TOLERANCE, rtol=0) for name, xyz in _PRIMARIES
        )
        # Nonsensical parameters give infinite curves, which are not sRGB's.
        with np.errstate(all="ignore"):
            return has_primaries and all(
                np.allclose(_read_curve(tags[name]), _SRGB_CURVE, atol=_CURVE_TOLERANCE, rtol=0) for name in _CURVES
            )
    except (KeyError, struct.error, ValueError):
        return False


def _list_tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, _TAGS_START)
    tags = {}
    for number in range(min(count, _MAX_TAGS)):
        name, offset, size = struct.unpack_from(">4sII", profile, _TAGS_START + 4 + 12 * number)
        tags[name] = profile[offset : offset + size]
    return tags


def _read_xyz(tag: bytes) -> tuple[float, ...]:
    kind, *values = struct.unpack_from(">4s4x3i", tag)
    if kind != b"XYZ ":
        raise ValueError("not a colour")
    return tuple(value / 65536 for value in values)


def _read_curve(tag: bytes) -> Curve:
    """Return what a curve makes of 33 evenly spaced inputs, 0 to 1."""
    if tag[:4] == b"para":
        function, *_ = struct.unpack_from(">H", tag, 8)
        parameters = struct.unpack_from(f">{_PARAMETERS.get(function, 0)}i", tag, 12)
        return _evaluate(function, [value / 65536 for value in parameters])
    if tag[:4] != b"curv":
        raise ValueError("not a curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count <= 1:
        gamma = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
        return np.asarray(_STEPS**gamma)
    table = np.frombuffer(tag, ">u2", count, 12) / 65535
    return np.asarray(np.interp(_STEPS, np.linspace(0, 1, count), table))


def _evaluate(function: int, parameters: list[float]) -> Curve:
    """Return a parametric curve of type 0 or 3, the two in use, at the 33 steps."""
    if function == 0:
        return np.asarray(_STEPS ** parameters[0])
    if function != 3:
        raise ValueError("an uncommon curve")
    gamma, a, b, c, d = parameters
    return np.asarray(np.where(d <= _STEPS, np.maximum(a * _STEPS + b, 0) ** gamma, c * _STEPS))


_SRGB_CURVE = _evaluate(3, [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])
