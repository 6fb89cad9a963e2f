"""The end of a run so far as one file, last.ckpt, whatever the objective says."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint of the last epoch beside that of the best, with no state.

    A second ModelCheckpoint has one that tells nothing (the best of no metric), and that depends on which of a run's
    checkpoints it goes on from. And Lightning refuses two of them where neither has a metric: their states would have
    one key.

    Args:
        dirpath: where last.ckpt goes; None is the logger's directory.
        filename: of the file, without ``.ckpt``.
        every_n_epochs: how often; or give
        every_n_train_steps: with ``every_n_epochs=None``, inside long epochs too.
        **kwargs: as of Lightning's ModelCheckpoint.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str = "last",
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = {"monitor": None, "save_top_k": 1, "save_on_train_epoch_end": True, "enable_version_counter": False}
        super().__init__(
            dirpath,
            filename,
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
            **{**arguments, **kwargs},
        )

    @property
    def state_key(self) -> str:
        """The key under which Lightning would keep a state."""
        return f"LastCheckpoint[{self.filename}]"

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up nothing."""
