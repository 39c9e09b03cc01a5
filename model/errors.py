"""The root of this package's errors: data, a bundle, or a training run that can't be used.

    ModelError
    +-- ListError         model.data.lists
    +-- PlaneError        model.data.planes
    +-- DatasetError      model.data.readers.sample
    +-- CalibrationError  model.evaluation.calibration
    +-- MetricError       model.evaluation.metrics
    +-- BundleError       model.serving.bundle
    +-- EngineError       model.serving.engine
    +-- CheckpointError   model.training.checkpoint
    +-- TrainingError     model.training.training

The command shows each of them in one line; the message says what is wrong and what to do.
"""


class ModelError(Exception):
    """Something that the person at the keyboard, or whoever sent it, can mend."""
