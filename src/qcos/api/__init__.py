"""The HTTP door, ``/v1``: thin. One file per capability; errors are RFC 9457 problems (`errors`); who calls is found out in `caller`."""
