"""Recipes made of other recipes: which these are, and how each is trained once and found again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline import registry
from pipeline.data.table import Table
from pipeline.errors import UserError
from pipeline.learning.mixing import probabilities
from pipeline.learning.recipe import Predictor, Recipe, Space, Trainer, Training
from pipeline.runs import run_folder
from pipeline.types import Array


class Member(BaseModel):
    """A model with settings and, where it is not to be that of the whole, a seed.

    As text `bilstm_attention:stages=skeleton:seed=3`, of which `+` separates the values of a list; or the folder of a run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    settings: Mapping[str, Any] = {}
    seed: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _parsed(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if "/" in given:
            run = run_folder.read(given)
            return {"model": run.model, "settings": run.record["settings"], "seed": run.record["seed"]}
        model, *words = given.split(":")
        settings = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"member {given!r}: {word!r} is no setting; as in bilstm_attention:stages=a+b:hidden=64")
            settings[key] = value.replace("+", ",")
        seed = settings.pop("seed", None)
        return {"model": model, "settings": settings, "seed": seed}

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Member:
        """The same with every setting said: the model's defaults < the corpus' < its own."""
        recipe: Recipe = registry.create("model", self.model, {**training.get(self.model, {}), **self.settings})
        return Member(model=self.model, settings=recipe.adapted(training).model_dump(mode="json"), seed=self.seed)

    def text(self, other: Member) -> str:
        """As it is said: `bilstm_attention:hidden=64:seed=3`, with the settings that another of its model has otherwise."""
        differing = {key: value for key, value in self.settings.items() if other.settings.get(key) != value}
        if self.seed is not None:
            differing["seed"] = self.seed
        return ":".join([self.model, *(f"{key}={_as_word(value)}" for key, value in differing.items())])

    @cached_property
    def recipe(self) -> Recipe:
        found: Recipe = registry.create("model", self.model, self.settings)
        return found


def _as_word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _name(number: int, field: str) -> str:
    """What a search calls a setting of a member."""
    return f"members.{number}.{field}"


def _place(name: str) -> tuple[int | None, str]:
    """The member and its field that `_name` says; None where it is the whole's."""
    if not name.startswith("members."):
        return None, name
    number, _, field = name.removeprefix("members.").partition(".")
    return int(number), field


class Ensemble(Recipe):
    """A recipe of members: reads their stages, and takes their settings from the corpus."""

    stages: tuple[str, ...] = ()
    """Those of the members; say them in these."""
    members: tuple[Member, ...]

    @property
    def parts(self) -> tuple[Recipe, ...]:
        return tuple(member.recipe for member in self.members)

    @property
    def aids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stage for part in self.parts for stage in part.aids if stage not in self.stages))

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Recipe:
        if not self.members:
            raise UserError("an ensemble needs members: --set members=inception_time:stages=inertial,bilstm_attention:stages=skeleton")
        whole = self.model_copy(update={"members": tuple(member.adapted(training) for member in self.members)})
        stages = tuple(dict.fromkeys(stage for part in whole.parts for stage in part.stages))
        if self.stages and set(self.stages) != set(stages):
            own = ",".join(stages)
            raise UserError(f"an ensemble reads the stages of its members, here {own}; say them there: --set members=MODEL:stages=a")
        return whole.model_copy(update={"stages": stages})

    def searched(self, given: Mapping[str, str]) -> Space:
        """Its own space, and that of each member but for what its text says: of one that is a run, nothing."""
        words = [word.strip() for word in given.get("members", "").split(",") if word.strip()]
        said = [Member.model_validate(word).settings for word in words] or [{}] * len(self.members)
        found = dict(super().searched(given))
        for number, (part, fixed) in enumerate(zip(self.parts, said, strict=True)):
            found |= {_name(number, field): where for field, where in part.space.items() if field not in fixed}
        return found

    def setting(self, name: str) -> Any:
        number, field = _place(name)
        return super().setting(name) if number is None else self.members[number].recipe.setting(field)

    def varied(self, found: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in found.items() if _place(name)[0] is None}
        return {**super().varied(own), "members": [member.model_dump(mode="json") for member in self._with(found)]}

    def said(self, found: Mapping[str, Any], training: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Members as text, each with what it has otherwise than its model in this corpus."""
        own = {name: value for name, value in found.items() if _place(name)[0] is None}
        text = ",".join(member.text(Member(model=member.model).adapted(training)) for member in self._with(found))
        return {**own, "members": text} if len(own) < len(found) else own

    def _with(self, found: Mapping[str, Any]) -> Iterator[Member]:
        """The members with the settings that a search found for each."""
        for number, member in enumerate(self.members):
            theirs = {field: value for name, value in found.items() for place, field in [_place(name)] if place == number}
            yield member.model_copy(update={"settings": {**member.settings, **theirs}})

    def keep_validation(self, use: str, instead: str) -> None:
        """Raise UserError where something goes by validation that a member learned from."""
        for member in self.members:
            if member.recipe.learns_validation:
                raise UserError(
                    f"{use} goes by the validation clips, and member {member.model!r} learned from them (learn=all); "
                    f"set {instead}, or learn=train for the member"
                )


class Together:
    """Trains the members on tables in memory, where no run folders are asked for."""

    def __init__(self, train: Training, val: Training, device: str) -> None:
        self.train, self.val, self.device = train, val, device

    def whole(self, model: str, recipe: Recipe, seed: int) -> Predictor:
        return self.fold(model, recipe, seed, ())

    def fold(self, model: str, recipe: Recipe, seed: int, held: Collection[str]) -> Predictor:
        stages = [*recipe.stages, *recipe.aids]
        train, val = (
            table.part({clip for clip in table.ids if all(clip in table.stages[stage] for stage in recipe.stages)} - set(held), stages)
            for table in (self.train, self.val)
        )
        train.seed = seed
        return recipe.fit(train, val, self.device)


def trainer_of(train: Training, val: Training, device: str) -> Trainer:
    return train.trainer or Together(train, val, device)


def over(table: Table, predictors: Sequence[Predictor]) -> Array:
    """`(members, N, C)` probabilities of the clips of a table, in its order."""
    return table.each(partial(probabilities, predictors), 1)


def save_all(predictors: Sequence[Predictor], folder: Path) -> None:
    """Every member's weights, in folders 0, 1, ... of `members`."""
    for number, predictor in enumerate(predictors):
        place = folder / "members" / str(number)
        place.mkdir(parents=True, exist_ok=True)
        predictor.save(place)


def load_all(predictors: Sequence[Predictor], folder: Path) -> None:
    for number, predictor in enumerate(predictors):
        predictor.load(folder / "members" / str(number))
