"""Amazon Braket: the local simulators of its SDK."""

from qcos.drivers.braket.driver import BraketDriver

__all__ = ["BraketDriver"]
