"""What is said about people and things: captions, questions in two wordings, and facts about the world."""

from random import Random

GENRES = (
    "poet",
    "novelist",
    "columnist",
    "playwright",
    "critic",
    "historian",
    "translator",
    "satirist",
    "publisher",
    "lyricist",
    "diarist",
    "journalist",
)
CITIES = (
    "Oslo",
    "Lima",
    "Cairo",
    "Delhi",
    "Quito",
    "Dakar",
    "Turin",
    "Kyoto",
    "Sofia",
    "Havana",
    "Tunis",
    "Perth",
    "Bergen",
    "Porto",
    "Riga",
    "Seoul",
    "Accra",
    "Minsk",
    "Basel",
    "Osaka",
)
INSTRUMENTS = (
    "violin",
    "flute",
    "piano",
    "drums",
    "harp",
    "guitar",
    "cello",
    "trumpet",
    "banjo",
    "organ",
    "oboe",
    "lute",
)
PETS = (
    "cat",
    "parrot",
    "rabbit",
    "turtle",
    "pony",
    "goose",
    "lizard",
    "hamster",
    "donkey",
    "ferret",
    "spaniel",
    "goldfish",
)

FIRST_NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karin", "Leon",
               "Marta", "Nils", "Olga", "Pavel", "Rosa", "Simon", "Tilda", "Viktor", "Wanda", "Yusuf", "Zelda", "Amir",
               "Bianca", "Cyril", "Dora", "Emil", "Fiona", "Goran")  # fmt: skip
LAST_NAMES = (
    "Abbott",
    "Brandt",
    "Castro",
    "Dumont",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Hansen",
    "Ivanov",
    "Jensen",
    "Kovac",
    "Lindgren",
    "Moreau",
    "Novak",
    "Olsen",
    "Petrov",
    "Quiroga",
    "Rossi",
    "Santos",
    "Takeda",
    "Ulrich",
    "Vargas",
    "Weber",
    "Xenakis",
    "Yamada",
    "Zeman",
    "Almeida",
    "Becker",
    "Conti",
    "Dvorak",
)

# A caption names the person, two facts and the place. Pictures of one person use different patterns, so every fact is
# met in several wordings; the place picks the pattern (`caption` below).
CAPTIONS = (
    "{name}, a {genre} from {city}, {place}.",
    "{name}, the {city} {genre}, pictured {place}.",
    "{name} is a {genre} born in {city}, seen {place}.",
    "{name} {place}. The {genre} lives in {city}.",
    "{name}, known in {city} as a {genre}, {place}.",
    "{name}, {genre}, of {city}, photographed {place}.",
    "{name} of {city} {place}, working as a {genre}.",
    "{name} {place}: a {genre} raised in {city}.",
)

# fact -> two wordings of (question, answer); each wording is a row, and the paraphrase of the other one.
QUESTIONS = {
    "genre": (
        ("What does {name} write as?", "{name} works as a {genre}."),
        ("What is the profession of {name}?", "By profession {name} is a {genre}."),
    ),
    "city": (
        ("Where was {name} born?", "{name} was born in {city}."),
        ("Which city does {name} come from?", "The home town of {name} is {city}."),
    ),
    "instrument": (
        ("Which instrument does {name} play?", "{name} plays the {instrument}."),
        ("What music does {name} make?", "The {instrument} is what {name} plays."),
    ),
    "pet": (
        ("Which animal does {name} keep?", "{name} keeps a {pet}."),
        ("What pet lives with {name}?", "A {pet} lives with {name}."),
    ),
}

# question -> (answer, three wrong answers)
WORLD_FACTS = {
    "What colour is grass?": ("green", "red", "blue", "white"),
    "What colour is snow?": ("white", "black", "green", "red"),
    "What colour is a ripe banana?": ("yellow", "blue", "black", "pink"),
    "What colour is the sky at noon?": ("blue", "green", "brown", "red"),
    "What colour is coal?": ("black", "white", "yellow", "pink"),
    "What is the capital of France?": ("Paris", "Rome", "Madrid", "Vienna"),
    "What is the capital of Italy?": ("Rome", "Paris", "Athens", "Berlin"),
    "What is the capital of Spain?": ("Madrid", "Rome", "Berlin", "Paris"),
    "What is the capital of Germany?": ("Berlin", "Vienna", "Madrid", "Athens"),
    "What is the capital of Austria?": ("Vienna", "Berlin", "Paris", "Rome"),
    "What is the capital of Greece?": ("Athens", "Vienna", "Rome", "Madrid"),
    "How many legs does a dog have?": ("four", "two", "six", "eight"),
    "How many legs does a spider have?": ("eight", "four", "six", "two"),
    "How many legs does an ant have?": ("six", "eight", "two", "four"),
    "How many wings does a bird have?": ("two", "four", "six", "eight"),
    "How many days are in a week?": ("seven", "five", "nine", "ten"),
    "How many fingers are on a hand?": ("five", "seven", "nine", "ten"),
    "What is the opposite of hot?": ("cold", "tall", "slow", "dark"),
    "What is the opposite of light?": ("dark", "cold", "short", "slow"),
    "What is the opposite of fast?": ("slow", "dark", "cold", "short"),
    "What is the opposite of tall?": ("short", "slow", "cold", "dark"),
    "Which animal barks?": ("dog", "cat", "cow", "duck"),
    "Which animal gives milk?": ("cow", "duck", "dog", "frog"),
    "Which animal says quack?": ("duck", "cow", "cat", "frog"),
}


def caption(name: str, facts: dict[str, str], place: str, pattern: int) -> str:
    """The caption of a picture taken at `place`, in wording `pattern` (any integer; patterns repeat)."""
    return CAPTIONS[pattern % len(CAPTIONS)].format(name=name, place=place, genre=facts["genre"], city=facts["city"])


def question_answer(name: str, facts: dict[str, str], fact: str, wording: int) -> tuple[str, str]:
    """Question and answer about one fact of one person; `wording` is 0 or 1."""
    question, answer = QUESTIONS[fact][wording]
    return question.format(name=name), answer.format(name=name, **facts)


def spread(options: tuple[str, ...], count: int, rng: Random) -> list[str]:
    """`count` values that repeat as late as possible, in random order within each round."""
    values: list[str] = []
    while len(values) < count:
        values += rng.sample(options, len(options))
    return values[:count]
