"""Where each tensor of a checkpoint goes in a live model, and what is made of it on the way.

That is transformers' own knowledge: names of older files, wrappers with another prefix, experts that lie one by one in a file
and are stacked in the model. transformers 5 has tables and a loader for it, which take any part of a checkpoint;
transformers 4 renames only. Neither is public: what of them is used is used here alone.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .stored import Stored

if TYPE_CHECKING:
    import torch

OTHER_VERSION = "Use a version of transformers that monoglot was tested with (see its constraints.txt)."


class Places:
    """The tensors of a checkpoint by their places in `model`; `unexpected` are those without one."""

    def __init__(self, model: Any, floats: "torch.dtype", tensors: Mapping[str, Stored]) -> None:
        self._model, self._floats, self._tensors = model, floats, tensors
        self._by_transforms = _has_transforms()
        renamed = self._renamed()
        self._places: dict[str, list[str]] = {}  # place -> the tensors that are put there
        known = {name for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())}
        for name, place in renamed.items():
            if place in known:
                self._places.setdefault(place, []).append(name)
        self.unexpected = sorted(place for place in renamed.values() if place not in known)

    def plain(self, place: str) -> Stored | None:
        """Return the tensor that stands at a place as it is in the file, or None."""
        names = self._places.get(place, [])
        found = self._tensors[names[0]] if len(names) == 1 else None
        shape = tuple(self._model.get_parameter(place).shape) if found else ()
        return found if found and found.place and found.shape == shape else None

    def check(self) -> set[str]:
        """Put tensors without numbers at all places, and return those that were filled.

        Raises ModelError when a shape is not the model's.
        """
        import torch

        empty = {
            name: torch.empty(one.shape, dtype=self._floats if one.floating else torch.int64, device="meta")
            for names in self._places.values()
            for name in names
            for one in [self._tensors[name]]
        }
        buffers = [(module, dict(module._buffers)) for module in self._model.modules()]
        filled = self._put(empty, torch.device("meta"))
        for module, own in buffers:
            module._buffers.update(own)
        return filled

    def load(self, wanted: Callable[[str], bool], device: "torch.device") -> None:
        """Read the tensors whose places are wanted."""
        chosen = {name: self._tensors[name] for place in self._places if wanted(place) for name in self._places[place]}
        if chosen:
            self._put(chosen, device)

    def _put(self, tensors: Mapping[str, Any], device: "torch.device") -> set[str]:
        return self._convert(tensors, device) if self._by_transforms else self._assign(tensors, device)

    def _renamed(self) -> dict[str, str]:
        """Name each tensor's place; of one that is converted together with others, the first place of the result."""
        model, names = self._model, list(self._tensors)
        if not self._by_transforms:
            return _renamed_by_4(model, names)
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        state, transforms = model.state_dict(), _transforms(model)
        renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        converters = [one for one in transforms if isinstance(one, WeightConverter)]
        prefix, found = model.base_model_prefix, {}
        for name in names:
            place, _ = rename_source_key(name, renamings, converters, prefix, state)
            if place not in state and name in state:
                place, _ = rename_source_key(name, [], [], prefix, state)
            found[name] = place
        return found

    def _convert(self, tensors: Mapping[str, Any], device: "torch.device") -> set[str]:
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        model = self._model
        how = LoadStateDictConfig(
            device_map={"": device}, dtype=self._floats, dtype_plan=model._get_dtype_plan(self._floats),
            weight_mapping=_transforms(model),
        )  # fmt: skip
        info, _ = convert_and_load_state_dict_in_model(model, dict(tensors), how)
        for name, found, own in info.mismatched_keys:
            raise _other_shape(name, found, own)
        for place, reason in info.conversion_errors.items():
            raise ModelError(f"transformers cannot make {place} of the checkpoint's tensors: {reason}")
        missing: set[str] = info.missing_keys
        return set(model.state_dict()) - missing

    def _assign(self, tensors: Mapping[str, Any], device: "torch.device") -> set[str]:
        import torch

        filled = set()
        for place, names in self._places.items():
            if names[0] not in tensors:
                continue
            path, _, name = place.rpartition(".")
            module = self._model.get_submodule(path)
            own, found = getattr(module, name), tensors[names[0]][...]
            if found.shape != own.shape:
                raise _other_shape(place, found.shape, own.shape)
            found = found.to(device, own.dtype)
            if name in module._parameters:
                module._parameters[name] = torch.nn.Parameter(found, found.is_floating_point())
            elif device.type != "meta":
                module._buffers[name] = found
            filled.add(place)
        return filled


def _has_transforms() -> bool:
    try:
        import transformers.core_model_loading
    except ImportError:  # transformers 4
        return False
    return hasattr(transformers.core_model_loading, "convert_and_load_state_dict_in_model")


def _transforms(model: Any) -> list[Any]:
    """Return transformers' table of what is made of a model's tensors: anew each time, for it remembers what it saw."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    return list(get_model_conversion_mapping(model, None, None))


def _renamed_by_4(model: Any, names: list[str]) -> dict[str, str]:
    prefix = model.base_model_prefix
    there = bool(prefix) and any(name.startswith(prefix) for name in names)
    expected = hasattr(model, prefix)
    renamed: dict[str, str] = model._get_key_renaming_mapping(
        names, type(model)._checkpoint_conversion_mapping, there and not expected, not there and expected
    )
    return renamed


def _other_shape(place: str, found: Any, own: Any) -> ModelError:
    return ModelError(
        f"{place} has the shape {list(found)} in the checkpoint, and {list(own)} by its config. {OTHER_VERSION}"
    )
