"""The handle that `install` returns."""

from nnx_wrappers import _core


class Installation:
    """What `install()` replaced, and the way back. There is one installation a process.

    No class of the extension: what JAX keeps beyond the end of Python (every class of a
    module, with the globals of its methods) may hold one, and nanobind would call it a leak.
    """

    __slots__ = ()

    def restore(self) -> None:
        """Puts everything back; does nothing the second time.

        A name that somebody else has replaced since is left alone. Modules that were
        imported meanwhile keep the classes they hold.
        """
        _core.installation_restore()

    def replaced(self) -> dict[str, list[str]]:
        """The names that are replaced now.

        Returns:
          Lists of names by module; empty after `restore`.
        """
        return _core.installation_replaced()

    def __enter__(self) -> "Installation":
        _core.installation_enter()
        return self

    def __exit__(self, *exception: object) -> None:
        _core.installation_exit()

    def __repr__(self) -> str:
        return _core.installation_repr()
