"""Google Cirq: its state-vector simulator."""

from qcos.drivers.cirq.driver import CirqDriver

__all__ = ["CirqDriver"]
