"""multilingual: numbers, sums, the calendar and short sentences in German, Spanish, French, Italian and Portuguese."""

from __future__ import annotations

import itertools
import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.instruct.answers import verify
from read_env.capabilities.instruct.tables import (
    ADJECTIVE_KINDS,
    ADJECTIVES,
    AND,
    ARTICLES,
    CALENDARS,
    IS,
    LANGUAGES,
    NOUNS,
    SYNONYMS,
    number_words,
)
from read_env.capabilities.instruct.words import filling

#: How each language asks for a number after "Answer:", in words or digits, and for one word.
_NUMBER = {
    "German": ("Antworte mit der Zahl nach „Answer:“.", "Schreibe nur „Answer:“ und die Zahl."),
    "Spanish": ("Responde con el número después de «Answer:».", "Escribe solo «Answer:» y el número."),
    "French": ("Réponds par le nombre après « Answer: ».", "Écris seulement « Answer: » et le nombre."),
    "Italian": ("Rispondi con il numero dopo «Answer:».", "Scrivi soltanto «Answer:» e il numero."),
    "Portuguese": ("Responda com o número depois de «Answer:».", "Escreva apenas «Answer:» e o número."),
}
_ONE_WORD = {
    "German": ("Antworte mit einem Wort nach „Answer:“.", "Schreibe nur „Answer:“ und das Wort."),
    "Spanish": ("Responde con una palabra después de «Answer:».", "Escribe solo «Answer:» y la respuesta."),
    "French": ("Réponds en un mot après « Answer: ».", "Écris seulement « Answer: » et la réponse."),
    "Italian": ("Rispondi con una parola dopo «Answer:».", "Scrivi soltanto «Answer:» e la risposta."),
    "Portuguese": ("Responda com uma palavra depois de «Answer:».", "Escreva apenas «Answer:» e a resposta."),
}
_ENDINGS = ('Reply in the form "Answer: ...".', 'Write only "Answer:" and the text.', 'Put it after "Answer:".')


def _numbers(rng: random.Random) -> Filling:
    language, n = rng.choice(LANGUAGES), rng.randint(2, 99)
    accepted = number_words(n, language)
    slots = {"language": language, "n": n, "answer": accepted[0], "ending": rng.choice(_ENDINGS)}
    return filling(slots, {"answers": accepted}, size=n, steps=1)


def _arithmetic(rng: random.Random) -> Filling:
    language, terms = rng.choice(LANGUAGES), rng.randint(2, 3)
    small, large = sorted(rng.sample(range(2, 60), 2))
    calendar = CALENDARS[language]
    if terms == 2 and rng.random() < 0.5:
        question, result = calendar.difference_question, large - small
        parts = {"a": number_words(large, language)[0], "b": number_words(small, language)[0]}
    else:
        numbers = [rng.randint(2, 30) for _ in range(terms)]
        plus = calendar.sum_question.partition("{a}")[2].partition("{b}")[0]
        text = [number_words(n, language)[0] for n in numbers]
        question, result = calendar.sum_question, sum(numbers)
        parts = {"a": plus.join(text[:-1]), "b": text[-1]}
    accepted = [*number_words(result, language), str(result)]
    slots = {"question": question.format(**parts), "answer": accepted[0], "ending": rng.choice(_NUMBER[language])}
    return filling(slots, {"answers": accepted}, size=result, steps=terms)


def _calendar(rng: random.Random) -> Filling:
    language = rng.choice(LANGUAGES)
    calendar = CALENDARS[language]
    days = rng.random() < 0.5
    names, question = (calendar.days, calendar.day_question) if days else (calendar.months, calendar.month_question)
    at, steps = rng.randrange(len(names)), rng.randint(1, 40 if days else 30)
    accepted = names[(at + steps) % len(names)].split("|")
    slots = {
        "question": question.format(start=names[at].split("|")[0], steps=steps), "answer": accepted[0],
        "ending": rng.choice(_ONE_WORD[language]),
    }  # fmt: skip
    check = {"answers": accepted, "articles": sorted({*ARTICLES[language].values(), "en", "em"})}
    return filling(slots, check, size=2.5 * steps, steps=1 + min(2, steps // len(names)))


def _sentences(noun: str, adjectives: list[str], language: str) -> list[str]:
    """Every accepted translation of "The noun is adjective (and adjective)", the usual one first."""
    if language == "English":
        return [f"The {noun} is {' and '.join(adjectives)}."]
    at = LANGUAGES.index(language)
    nouns, gender = NOUNS[noun][at].split()
    forms = [ADJECTIVES[adjective][at].split("/") for adjective in adjectives]
    agreeing = [(form[-1] if gender == "f" else form[0]).split("|") for form in forms]
    return [
        f"{ARTICLES[language][gender].capitalize()} {word} {IS[language]} {f' {AND[language]} '.join(form)}."
        for word in nouns.split("|")
        for form in itertools.product(*agreeing)
    ]


def _translate(rng: random.Random) -> Filling:
    noun, count = rng.choice(list(NOUNS)), rng.randint(1, 2)
    # Two sizes or two ages of one thing would be odd; so would be two colours.
    adjectives = [rng.choice(kind) for kind in rng.sample(ADJECTIVE_KINDS, count)]
    language = rng.choice(LANGUAGES)
    source, target = rng.choice((("English", language), (language, "English")))
    accepted = _sentences(noun, adjectives, target)
    if target == "English":
        for word, other in SYNONYMS:  # one after the other, so that both of two words may be replaced
            accepted += [text.replace(word, other) for text in accepted if word in text]
    slots = {
        "source": source, "target": target, "text": _sentences(noun, adjectives, source)[0], "answer": accepted[0],
        "ending": rng.choice(_ENDINGS),
    }  # fmt: skip
    size = 99 * list(NOUNS).index(noun) / (len(NOUNS) - 1)
    return filling(slots, {"answers": accepted}, size=size, steps=2 * count - 1)


MULTILINGUAL = Capability(
    "multilingual",
    (
        Template(
            "numbers",
            (
                "Write the number {n} in words in {language}. {ending}",
                "How do you say {n} in {language}? Spell it out. {ending}",
                "What is {n} in {language}, in words? {ending}",
            ),
            "Answer: {answer}",
            _numbers,
        ),
        Template("arithmetic", ("{question} {ending}",), "Answer: {answer}", _arithmetic),
        Template("calendar", ("{question} {ending}",), "Answer: {answer}", _calendar),
        Template(
            "translate",
            (
                "Translate from {source} into {target}: {text} {ending}",
                'What is "{text}" in {target}? The sentence is {source}. {ending}',
                "Here is a sentence in {source}: {text} Give it in {target}. {ending}",
            ),
            "Answer: {answer}",
            _translate,
        ),
    ),
    answer_marker="Answer:",
    verifier=verify,
)
