"""The handle that `install` returns."""

from nnx_wrappers import _core


class Installation:
    """The names that `install()` has replaced. A process has one installation at most.

    This is a Python class, since JAX keeps every class of a module alive beyond the end of Python,
    with the globals of its methods. An instance of a class of the extension among these would be
    reported by nanobind as leaked.
    """

    __slots__ = ()

    def restore(self) -> None:
        """Puts the earlier objects back; does nothing the second time.

        A name that has another object by now is left alone. Modules that were imported meanwhile
        keep the classes that they hold.
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
