"""Qiskit's gates as Braket's OpenQASM 3 names them; Braket's interpreter knows no ``stdgates.inc``.

Source: Amazon Braket's list of supported OpenQASM gates; each line is tried out against Qiskit's matrices in
the tests.
"""

from __future__ import annotations

from typing import Final

GATES: Final = {
    "x": "x",
    "y": "y",
    "z": "z",
    "h": "h",
    "s": "s",
    "sdg": "si",
    "t": "t",
    "tdg": "ti",
    "sx": "v",
    "sxdg": "vi",
    "rx": "rx",
    "ry": "ry",
    "rz": "rz",
    "p": "phaseshift",
    "u1": "phaseshift",
    "u": "U",
    "u3": "U",
    "cx": "cnot",
    "cy": "cy",
    "cz": "cz",
    "cp": "cphaseshift",
    "cu1": "cphaseshift",
    "swap": "swap",
    "rxx": "xx",
    "rzz": "zz",
    "ccx": "ccnot",
    "cswap": "cswap",
}
