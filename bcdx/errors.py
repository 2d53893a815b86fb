"""The errors a user can meet: each message says what is wrong, with which value, where, and what to do."""


class BcdxError(Exception):
    """Anything that bcdx reports in one line and answers with exit status 2."""


class SettingsError(BcdxError):
    """A recipe, flag or environment variable that cannot be used."""


class DicomError(BcdxError):
    """A file that cannot become a `Slice`; `reason` is free of identifiers and safe to store."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LabelError(BcdxError):
    """A label table that cannot be read or contradicts itself."""


class RecordsError(BcdxError):
    """Shards that are missing, stale, damaged or would leak between splits."""


class RunError(BcdxError):
    """A run folder that is missing, unfinished or belongs to another configuration."""


class StoreFullError(BcdxError):
    """Outputs of frozen layers that neither disk nor memory has room for."""


class TrainingError(BcdxError):
    """Training that came to nothing with these hyperparameters; others may do."""
