"""Captions for scenes: one plain sentence for scoring, many wordings for training.

`WORDS` is every word a caption may hold; each is a single token of the CLIP vocabulary. Any other word a user types
means nothing to the model, and `with_strangers` teaches it so by adding such words to some training captions.
"""

from scenes import COLOURS, PLACES, SIDE_BY_SIDE

SHAPE_WORDS = {
    "circle": ["circle", "circle", "circle", "ball", "disc"],
    "square": ["square", "square", "square", "box"],
    "triangle": ["triangle"],
    "star": ["star"],
    "heart": ["heart"],
    "diamond": ["diamond"],
    "cross": ["cross", "cross", "plus"],
    "ring": ["ring", "ring", "ring", "donut"],
}
SIZE_WORDS = {"small": ["small", "small", "tiny", "little"], "large": ["large", "big", "huge"]}
OPENINGS = [f"{kind} of" for kind in ("a photo", "a picture", "a drawing", "an image", "an illustration", "a painting")]
STRANGERS = (
    "beautiful masterpiece detailed realistic 8k hd sharp cute shiny glossy vivid simple flat clean bright modern "
    "abstract art artwork render digital minimal geometric logo icon trending style best quality high resolution"
).split()
_OTHER_WORDS = "middle centre grey next to and above below on with against plain empty background in at the a an corner ,"


def _all_words():
    phrases = COLOURS + list(PLACES) + OPENINGS + [_OTHER_WORDS]
    for choices in (SHAPE_WORDS, SIZE_WORDS):
        phrases += [word for words in choices.values() for word in words]
    return sorted(set(" ".join(phrases).split()))


WORDS = _all_words()


def plain(scene):
    """The sentence used for scoring: names everything that the scene fixes, always in the same wording."""
    ground = f"{_article(scene.background)} background"
    if not scene.items:
        return ground
    if scene.relation:
        first, second = (_article(f"{item.colour} {item.shape}") for item in scene.items)
        return f"{first} {scene.relation} {second} on {ground}"
    item = scene.items[0]
    thing = _article(" ".join(word for word in (scene.size, item.colour, item.shape) if word))
    place = f" in the {scene.place}" if scene.place else ""
    return f"{thing}{place} on {ground}"


def varied(scene, rng):
    """One of many wordings, with synonyms; now and then the colour or the background goes unsaid."""
    colour = _colour_word(scene.background, rng)
    if not scene.items:
        return rng.choice([f"{_article(colour)} background", f"{colour} background", f"a plain {colour} background",
                           f"an empty {colour} background"])
    ground = _ground(colour, rng)
    return _pair(scene, ground, rng) if scene.relation else _single(scene, ground, rng)


def with_strangers(caption, rng):
    """The caption with one to six words from outside the vocabulary strewn in or appended after commas."""
    words = caption.split()
    extra = [rng.choice(STRANGERS) for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.5:
        return caption + ", " + ", ".join(extra)
    for word in extra[:3]:
        words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)


def _article(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _colour_word(colour, rng):
    return rng.choice(["gray", "grey"]) if colour == "gray" else colour


def _ground(colour, rng):
    usual = f" on {_article(colour)} background"
    rarer = [f", {colour} background", f", {colour} background", f" on {colour}",
             f" with {_article(colour)} background", f" against {_article(colour)} background",
             f" on a plain {colour} background"]
    return rng.choice([usual] * 5 + rarer)


def _noun(item, rng, size=None):
    words = [rng.choice(SIZE_WORDS[size])] if size else []
    return words + [_colour_word(item.colour, rng), rng.choice(SHAPE_WORDS[item.shape])]


def _single(scene, ground, rng):
    words = _noun(scene.items[0], rng, scene.size)
    if rng.random() < 0.06:
        del words[-2]
    thing = " ".join(words)
    dice = rng.random()
    if dice < 0.65:
        thing = _article(thing)
    elif dice >= 0.8:
        thing = f"{rng.choice(OPENINGS)} {_article(thing)}"
    place = _place(scene.place, rng) if scene.place else ""
    if rng.random() < 0.1:
        ground = ""
    return thing + place + ground if rng.random() < 0.7 else thing + ground + place


def _place(place, rng):
    word = rng.choice(["center", "middle", "centre"]) if place == "center" else place
    ways = [f" in the {word}", f" at the {word}"]
    if " " in place:
        ways.append(f" in the {word} corner")
    if place in ("left", "right"):
        ways.append(f" on the {word}")
    return rng.choice(ways)


def _pair(scene, ground, rng):
    first, second = (" ".join(_noun(item, rng)) for item in scene.items)
    if rng.random() < 0.85:
        first, second = _article(first), _article(second)
    # "next to" and "and" mean the same, so some captions swap the word; the order of the items stays.
    relation = rng.choice(SIDE_BY_SIDE) if scene.relation in SIDE_BY_SIDE else scene.relation
    text = f"{first} {relation} {second}"
    if rng.random() < 0.15:
        text = f"{rng.choice(OPENINGS)} {text}"
    return text if rng.random() < 0.08 else text + ground
