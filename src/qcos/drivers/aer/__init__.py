"""Qiskit Aer: the ideal simulator, and IBM's devices as Aer simulates them from recorded calibrations."""

from qcos.drivers.aer.driver import AerDriver

__all__ = ["AerDriver"]
