"""Every setting: its name, type, default and meaning. The only file of this room that imports pydantic.

The same words name the sections here, in YAML, on the command line and in the guide.
`auto` means: chosen from the data and said, with the reason, before training starts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("", "null", "~", "none") else value


def _truth_is_not_a_number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _plain_value(value: object) -> object:
    """A text of an option without a schema as the number or truth value it spells."""
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(value.lower(), value)


Optional_ = BeforeValidator(_empty_is_none)
Number = BeforeValidator(_truth_is_not_a_number)
AutoNumber = Annotated[float | Auto, Number]
AutoCount = Annotated[Annotated[int, Field(ge=1)] | Auto, Number]
Count = Annotated[int, Field(ge=1), Number]
OptionalName = Annotated[str | None, Optional_]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=False, protected_namespaces=()
    )


class DataSettings(Section):
    """Where the examples come from and how they are read."""

    source: str = Field("auto", description="kind of data; `danlu list sources` shows them")
    text_column: OptionalName = Field(None, description="column of the texts, when its name is not recognised")
    label_column: OptionalName = Field(None, description="column of the labels")
    image_column: OptionalName = Field(None, description="column of the image file names")
    group_column: OptionalName = Field(
        None, description="column whose equal values stay in one part, such as a patient or a customer"
    )
    image_folder: OptionalName = Field(
        None, description="folder the file names of a table start from; default: the table's own folder"
    )
    delimiter: str = Field("auto", description="column separator of a table: auto, `,`, `;`, `tab` or one character")
    encoding: str = Field("auto", description="text encoding of a table: auto, utf-8, gb18030, utf-16 …")
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="an example that cannot be read: stop the run, or leave it out, counted and named"
    )
    gate: Literal["on", "off"] = Field(
        "on", description="look for faults of the data before training and stop at errors; off trains all the same"
    )
    leaks: Literal["keep", "drop"] = Field(
        "keep",
        description="examples whose content stands in a later part too (train, validation, test): keep them, counted, "
        "or leave them out of the earlier part",
    )
    split: Annotated[list[Share], Field(min_length=3, max_length=3)] = Field(
        [0.7, 0.1, 0.2], description="shares of train, validation and test where the data has no such parts"
    )
    split_seed: Annotated[int, Field(ge=0), Number] = Field(0, description="seed of the split alone")
    image_size: AutoCount = Field("auto", description="height and width in pixels that images are brought to")
    color: Literal["auto", "gray", "rgb"] = Field("auto", description="channels images are brought to")
    resize: Literal["crop", "pad", "stretch"] = Field(
        "crop", description="how another aspect ratio is handled: cut the centre, add borders, or distort"
    )
    tokens: Literal["auto", "characters", "words"] = Field("auto", description="what a text is cut into")
    max_length: AutoCount = Field("auto", description="tokens read of each text; the rest is cut")
    vocabulary_size: Count = Field(20_000, description="most frequent tokens kept; others become <unk>")
    min_count: Count = Field(2, description="occurrences in the training part a token needs to be kept")
    cache: bool = Field(True, description="keep decoded images on disk for the next run")
    reader_threads: Count = Field(4, description="threads that read ahead where pixels do not fit in memory")

    @model_validator(mode="after")
    def _split_sums_to_one(self) -> DataSettings:
        if abs(sum(self.split) - 1) > 1e-6 or self.split[0] <= 0:
            raise ValueError(f"`split` must add up to 1 with a train share above 0, got {self.split}")
        return self


class AugmentationSettings(Section):
    """Random changes of training images; validation and test images are never changed."""

    crop: Annotated[Annotated[int, Field(ge=0)] | Auto, Number] = Field(
        "auto", description="pad by this many pixels, then cut at a random place; 0 is off"
    )
    flip: bool | Auto = Field("auto", description="mirror left-right, every image in every other epoch")
    rotation: Annotated[float, Field(ge=0, le=15), Number] = Field(
        0, description="largest angle in degrees, at most 15"
    )
    brightness: Annotated[Share, Number] = Field(0, description="largest relative change")
    contrast: Annotated[Share, Number] = Field(0, description="largest relative change")
    saturation: Annotated[Share, Number] = Field(0, description="largest relative change; colour images only")
    erasing: Annotated[Share, Number] = Field(0, description="share of images that lose a random rectangle")
    early_size: Annotated[Annotated[int, Field(ge=0)] | Auto, Number] = Field(
        "auto", description="height and width in pixels in the first epochs, which are faster; 0 is off"
    )
    early_epochs: Annotated[Annotated[int, Field(ge=0)] | Auto, Number] = Field(
        "auto", description="how many epochs see images of `early_size`"
    )


class ModelSettings(BaseModel):
    """The architecture; further keys are the options of the named model (`danlu list models --options`)."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())
    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(_plain_value)]] = Field(init=False)

    name: str = Field("auto", description="architecture; `danlu list models` shows them")
    initialization: Literal["kaiming", "xavier", "orthogonal", "pytorch"] = Field(
        "kaiming", description="first weights of linear and convolution layers"
    )


class TrainingSettings(Section):
    """The loop: how long, how fast, towards what, and when to stop."""

    epochs: AutoCount = Field("auto", description="passes over the training part")
    batch_size: AutoCount = Field("auto", description="examples a step")
    learning_rate: Annotated[Annotated[float, Field(gt=0)] | Auto, Number] = Field(
        "auto", description="highest step size"
    )
    optimizer: str = Field("auto", description="`danlu list optimizers` shows them")
    momentum: Annotated[Share, Number] = Field(0.9, description="for sgd, rmsprop and muon")
    nesterov: bool = Field(True, description="for sgd and muon")
    weight_decay: Annotated[Annotated[float, Field(ge=0)] | Auto, Number] = Field(
        "auto", description="pull of the weights to 0"
    )
    schedule: str = Field("auto", description="course of the learning rate; `danlu list schedules` shows them")
    warmup: Annotated[Share | Auto, Number] = Field(
        "auto", description="share of the steps spent rising; one_cycle, warmup_cosine, warmup_linear"
    )
    step_epochs: Count = Field(30, description="for schedule step: epochs between two drops")
    step_factor: Annotated[Share, Number] = Field(0.1, description="for schedule step: factor of a drop")
    plateau_factor: Annotated[Share, Number] = Field(0.5, description="for schedule plateau: factor of a drop")
    plateau_patience: Count = Field(5, description="for schedule plateau: epochs without a better validation loss")
    loss: str = Field("cross_entropy", description="`danlu list losses` shows them")
    label_smoothing: Annotated[Annotated[float, Field(ge=0, lt=1)] | Auto, Number] = Field(
        "auto", description="share of the target spread over all classes; cross_entropy only"
    )
    focal_gamma: Annotated[float, Field(ge=0), Number] = Field(2.0, description="for loss focal")
    sampling: Literal["shuffle", "balanced", "undersample"] = Field(
        "shuffle",
        description="examples of an epoch: each once; drawn so that classes are equally frequent; or of each class as "
        "many as the rarest has, others every epoch",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced weighs a class by examples / (classes × its examples)"
    )
    accumulation_steps: Count = Field(
        1, description="batches whose gradients are added up before a step; a step sees batch_size × this"
    )
    clip_norm: Annotated[Annotated[float, Field(gt=0)] | Auto | None, Number, Optional_] = Field(
        "auto", description="largest norm of all gradients together; empty is off"
    )
    ema: Annotated[float, Field(ge=0, lt=1), Number] = Field(
        0, description="decay a step of the running mean of weights that is evaluated and kept; 0 is off"
    )
    best_by: Literal["validation_loss", "validation_accuracy"] = Field(
        "validation_loss", description="what the kept checkpoint is best at; the loss tells close epochs apart sooner"
    )
    patience: Annotated[Annotated[int, Field(ge=1), Number] | None, Optional_] = Field(
        None, description="stop after this many epochs without a better `best_by`; empty is off"
    )
    seed: Annotated[int, Field(ge=0), Number] = Field(0, description="of weights, order, dropout and augmentation")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where tensors live")
    threads: AutoCount = Field("auto", description="processor threads of tensor operations; auto measures")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="numbers of the forward and backward pass; weights stay fp32; auto measures"
    )
    channels_last: bool | Auto = Field("auto", description="memory order of images; auto measures")
    compile: bool | Auto = Field(
        "auto", description="torch.compile the model; auto measures, and only where a run is long enough to pay for it"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice to keep fewer of them in memory; for chains of layers"
    )
    deterministic: bool = Field(
        False, description="only kernels that give the same bits on a GPU too; the processor's always do"
    )
    tensorboard: bool = Field(False, description="write TensorBoard events into the run's folder")


class PredictionSettings(Section):
    """What the trained model answers."""

    max_error: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Number, Optional_] = Field(
        None,
        description="largest share of wrong answers among those given: less certain ones are answered with `unknown`, "
        "from a threshold chosen on the validation part; empty answers always",
    )


class CheckpointSettings(Section):
    """How much work a crash can cost."""

    every_steps: AutoCount = Field(
        "auto", description="steps between two saves; auto: as often as costs at most 1 % of the time"
    )


class Settings(Section):
    """All sections."""

    data: DataSettings = DataSettings()  # type: ignore[call-arg]
    augmentation: AugmentationSettings = AugmentationSettings()  # type: ignore[call-arg]
    model: ModelSettings = ModelSettings()  # type: ignore[call-arg]
    training: TrainingSettings = TrainingSettings()  # type: ignore[call-arg]
    checkpoint: CheckpointSettings = CheckpointSettings()  # type: ignore[call-arg]
    prediction: PredictionSettings = PredictionSettings()  # type: ignore[call-arg]
