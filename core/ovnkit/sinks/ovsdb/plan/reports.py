"""What owners have been told about items that can't be written."""

from __future__ import annotations

from ovnkit.engine.sink import Owner, Report


class Reports:
    """Tells an owner each text once, until it wants something else."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._texts: dict[Owner, set[str]] = {}

    def tell(self, owner: Owner, error: Exception) -> None:
        """Something of an owner can't be written."""
        known = self._texts.setdefault(owner, set())
        if str(error) not in known:
            known.add(str(error))
            self._report(owner, error)

    def forget(self, owner: Owner) -> bool:
        """The owner wants something else; returns whether anything had been reported."""
        return self._texts.pop(owner, None) is not None

    def tell_over(self, owner: Owner) -> None:
        """All that had been reported of an owner is over, unless something has been reported since."""
        if owner not in self._texts:
            self._report(owner, None)

    @property
    def texts(self) -> dict[str, list[str]]:
        """Owners with something that can't be written, and why."""
        return {str(owner): sorted(texts) for owner, texts in self._texts.items()}
