"""Subsets of classes by name: CIFAR-100's superclasses, and those of ADaPT."""

from __future__ import annotations

from collections.abc import Sequence

from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown

# Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009
_SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}


# Rajagopal and Bouganis, "Now that I can see, I can improve", 2020, arXiv 2006.08554, as the
# configurations of its tool have them
_ADAPT = {
    "aquatic": "aquatic_mammals fish",
    "indoors": "food_containers household_electrical_devices household_furniture",
    "natural": "flowers fruit_and_vegetables insects large_omnivores_and_herbivores "
    "medium_mammals non-insect_invertebrates reptiles small_mammals",
    "random1": "aquatic_mammals fish flowers fruit_and_vegetables household_furniture "
    "large_man-made_outdoor_things large_omnivores_and_herbivores medium_mammals "
    "non-insect_invertebrates people reptiles trees vehicles_2",
    "subset1": "large_man-made_outdoor_things large_natural_outdoor_scenes people small_mammals "
    "trees vehicles_1 vehicles_2",
}


_SHOWN = 12  # names of classes in an error


def _known(classes: Sequence[str]) -> dict[str, list[str]]:
    """The subsets of a data set with these classes."""
    superclasses = {name: members.split() for name, members in _SUPERCLASSES.items()}
    if set(classes) != {name for members in superclasses.values() for name in members}:
        return {}
    adapt = {
        name: [member for part in parts.split() for member in superclasses[part]]
        for name, parts in _ADAPT.items()
    }
    return superclasses | adapt


def chosen(
    classes: Sequence[str], sub_classes: Sequence[str | int], subset_name: str | None
) -> list[int]:
    """The numbers of the classes that are asked for, in ascending order.

    Args:
        classes: the names of all.
        sub_classes: names and numbers of classes, and names of subsets.
        subset_name: of a subset, where there are no classes.

    Raises:
        UsageError: there is no such class or subset.
    """
    subsets = _known(classes)
    if not sub_classes and subset_name is None:
        return list(range(len(classes)))
    if not sub_classes and subset_name not in subsets:
        what, known = str(unknown_name("subset", str(subset_name), subsets)).splitlines()
        raise UsageError(
            f"{what}\nGive its classes beside it, as in sub_classes: [0, 1]"
            + (f"; {known[0].lower()}{known[1:]}" if subsets else ".")
        )
    numbers: set[int] = set()
    for asked in sub_classes or subsets[str(subset_name)]:
        if isinstance(asked, int) and str(asked) not in classes:
            if not 0 <= asked < len(classes):
                raise UsageError(
                    f"There is no class {asked}: classes are numbered from 0 to "
                    f"{len(classes) - 1}.\nGive numbers among those, or names: "
                    f"{', '.join(map(shown, classes[:_SHOWN]))}{', ...' * (len(classes) > _SHOWN)}."
                )
            numbers.add(asked)
        elif str(asked) in subsets:
            numbers.update(classes.index(name) for name in subsets[str(asked)])
        elif str(asked) in classes:
            numbers.add(classes.index(str(asked)))
        else:
            raise unknown_name("class", str(asked), [*classes, *subsets])
    return sorted(numbers)
