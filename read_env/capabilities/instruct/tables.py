"""Words of five languages: numbers, the calendar, and simple sentences with their agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LANGUAGES = ("German", "Spanish", "French", "Italian", "Portuguese")

_SMALL = {
    "German": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn",
    "Spanish": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis "
    "veintisiete veintiocho veintinueve",
    "French": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf",
    "Italian": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici "
    "sedici diciassette diciotto diciannove",
    "Portuguese": "zero um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezesseis "
    "dezessete dezoito dezenove",
}
_TENS = {
    "German": "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "Spanish": "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "French": "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt",
    "Italian": "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "Portuguese": "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
}
#: European spellings where the table has the Brazilian ones.
_PORTUGAL = {"dezesseis": "dezasseis", "dezessete": "dezassete", "dezenove": "dezanove", "catorze": "quatorze"}


def number_words(n: int, language: str) -> list[str]:
    """The accepted spellings of 0 to 99 in a language, the usual one first.

    Example:
        >>> number_words(21, "German"), number_words(16, "Portuguese")
        (['einundzwanzig'], ['dezesseis', 'dezasseis'])
    """
    small, tens = _SMALL[language].split(), _TENS[language].split()
    if n < len(small):
        word = small[n]
        return [word, _PORTUGAL[word]] if language == "Portuguese" and word in _PORTUGAL else [word]
    ten, one = tens[n // 10 - 2], n % 10
    if language == "German":
        return [ten if not one else f"{'ein' if one == 1 else small[one]}und{ten}"]
    if language == "French":
        return _french(n, ten, small)
    if not one:
        return [ten]
    if language == "Italian":
        return _italian(ten, one, small)
    return [f"{ten} {'y' if language == 'Spanish' else 'e'} {small[one]}"]


def _french(n: int, ten: str, small: list[str]) -> list[str]:
    rest = n % 20 if n >= 60 else n % 10
    if rest == 0:
        return ["quatre-vingts"] if n == 80 else [ten]
    if rest in (1, 11) and n < 80:
        # The spelling reform of 1990 joins all parts with hyphens.
        return [f"{ten} et {small[rest]}", f"{ten}-et-{small[rest]}"]
    return [f"{ten}-{small[rest]}"]


def _italian(ten: str, one: int, small: list[str]) -> list[str]:
    if one in (1, 8):
        return [f"{ten[:-1]}{small[one]}"]
    return [f"{ten}tré", f"{ten}tre"] if one == 3 else [f"{ten}{small[one]}"]


@dataclass(frozen=True)
class Calendar:
    """Days and months of a language, and questions about them."""

    days: tuple[str, ...]
    months: tuple[str, ...]
    day_question: str
    month_question: str
    sum_question: str
    difference_question: str


CALENDARS: Mapping[str, Calendar] = {
    "German": Calendar(
        tuple("Montag Dienstag Mittwoch Donnerstag Freitag Samstag|Sonnabend Sonntag".split()),
        tuple("Januar|Jänner Februar|Feber März April Mai Juni Juli August September Oktober November Dezember".split()),
        "Heute ist {start}. Welcher Wochentag ist in {steps} Tagen?",
        "Jetzt ist {start}. Welcher Monat ist in {steps} Monaten?",
        "Wie viel ist {a} plus {b}?", "Wie viel ist {a} minus {b}?",
    ),
    "Spanish": Calendar(
        tuple("lunes martes miércoles jueves viernes sábado domingo".split()),
        tuple("enero febrero marzo abril mayo junio julio agosto septiembre|setiembre octubre noviembre diciembre".split()),
        "Hoy es {start}. ¿Qué día de la semana será dentro de {steps} días?",
        "Ahora es {start}. ¿Qué mes será dentro de {steps} meses?",
        "¿Cuánto es {a} más {b}?", "¿Cuánto es {a} menos {b}?",
    ),
    "French": Calendar(
        tuple("lundi mardi mercredi jeudi vendredi samedi dimanche".split()),
        tuple("janvier février mars avril mai juin juillet août|aout septembre octobre novembre décembre".split()),
        "Nous sommes {start}. Quel jour de la semaine serons-nous dans {steps} jours ?",
        "Nous sommes en {start}. En quel mois serons-nous dans {steps} mois ?",
        "Combien font {a} plus {b} ?", "Combien font {a} moins {b} ?",
    ),
    "Italian": Calendar(
        tuple("lunedì martedì mercoledì giovedì venerdì sabato domenica".split()),
        tuple("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre".split()),
        "Oggi è {start}. Che giorno della settimana sarà tra {steps} giorni?",
        "Adesso è {start}. Che mese sarà tra {steps} mesi?",
        "Quanto fa {a} più {b}?", "Quanto fa {a} meno {b}?",
    ),
    "Portuguese": Calendar(
        tuple("segunda-feira|segunda terça-feira|terça quarta-feira|quarta quinta-feira|quinta sexta-feira|sexta sábado domingo".split()),
        tuple("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro".split()),
        "Hoje é {start}. Que dia da semana será daqui a {steps} dias?",
        "Agora é {start}. Que mês será daqui a {steps} meses?",
        "Quanto é {a} mais {b}?", "Quanto é {a} menos {b}?",
    ),
}  # fmt: skip

#: By language and gender (m, f, n).
ARTICLES: Mapping[str, Mapping[str, str]] = {
    "German": {"m": "der", "f": "die", "n": "das"}, "Spanish": {"m": "el", "f": "la"}, "French": {"m": "le", "f": "la"},
    "Italian": {"m": "il", "f": "la"}, "Portuguese": {"m": "o", "f": "a"},
}  # fmt: skip
IS: Mapping[str, str] = dict(zip(LANGUAGES, ("ist", "es", "est", "è", "é"), strict=True))
AND: Mapping[str, str] = dict(zip(LANGUAGES, ("und", "y", "et", "e", "e"), strict=True))
#: English words that translate the same foreign word as well.
SYNONYMS = (("big", "large"), ("small", "little"), ("beautiful", "pretty"))

#: English noun to noun and gender (m, f, n) by language, in the order of LANGUAGES.
NOUNS: Mapping[str, tuple[str, ...]] = {
    "cat": ("Katze f", "gato m", "chat m", "gatto m", "gato m"),
    "dog": ("Hund m", "perro m", "chien m", "cane m", "cachorro|cão m"),
    "house": ("Haus n", "casa f", "maison f", "casa f", "casa f"),
    "book": ("Buch n", "libro m", "livre m", "libro m", "livro m"),
    "table": ("Tisch m", "mesa f", "table f", "tavolo m", "mesa f"),
    "door": ("Tür f", "puerta f", "porte f", "porta f", "porta f"),
    "bread": ("Brot n", "pan m", "pain m", "pane m", "pão m"),
    "horse": ("Pferd n", "caballo m", "cheval m", "cavallo m", "cavalo m"),
    "shirt": ("Hemd n", "camisa f", "chemise f", "camicia f", "camisa f"),
    "street": ("Straße f", "calle f", "rue f", "strada|via f", "rua f"),
    "garden": ("Garten m", "jardín m", "jardin m", "giardino m", "jardim m"),
    "moon": ("Mond m", "luna f", "lune f", "luna f", "lua f"),
    "river": ("Fluss m", "río m", "fleuve m", "fiume m", "rio m"),
    "chair": ("Stuhl m", "silla f", "chaise f", "sedia f", "cadeira f"),
    "window": ("Fenster n", "ventana f", "fenêtre f", "finestra f", "janela f"),
    "kitchen": ("Küche f", "cocina f", "cuisine f", "cucina f", "cozinha f"),
}
#: English adjective to its forms by language: German one form, else masculine/feminine; alternatives after ``|``.
ADJECTIVES: Mapping[str, tuple[str, ...]] = {
    "white": ("weiß", "blanco/blanca", "blanc/blanche", "bianco/bianca", "branco/branca"),
    "black": ("schwarz", "negro/negra", "noir/noire", "nero/nera", "preto|negro/preta|negra"),
    "red": ("rot", "rojo/roja", "rouge/rouge", "rosso/rossa", "vermelho/vermelha"),
    "yellow": ("gelb", "amarillo/amarilla", "jaune/jaune", "giallo/gialla", "amarelo/amarela"),
    "green": ("grün", "verde/verde", "vert/verte", "verde/verde", "verde/verde"),
    "small": ("klein", "pequeño|chico/pequeña|chica", "petit/petite", "piccolo/piccola", "pequeno/pequena"),
    "big": ("groß", "grande/grande", "grand/grande", "grande|grosso/grande|grossa", "grande/grande"),
    "new": ("neu", "nuevo/nueva", "nouveau|neuf/nouvelle|neuve", "nuovo/nuova", "novo/nova"),
    "old": ("alt", "viejo|antiguo/vieja|antigua", "vieux|ancien/vieille|ancienne", "vecchio|antico/vecchia|antica", "velho|antigo/velha|antiga"),
    "beautiful": ("schön", "hermoso|bello|bonito/hermosa|bella|bonita", "beau/belle", "bello/bella", "belo|bonito|lindo/bela|bonita|linda"),
}  # fmt: skip
#: Adjectives by property; a sentence takes at most one of each.
ADJECTIVE_KINDS = (("white", "black", "red", "yellow", "green"), ("small", "big"), ("new", "old"), ("beautiful",))
