"""Callable functions of the tool_use prompts: schemas, and requests that determine every argument."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from read_env.capabilities.instruct.words import CITIES, COLOURS, ITEMS, NAMES, WEEKDAYS

#: Text of an argument in a request, and its value in the call.
Said = tuple[str, Any]


def _one_of(options: tuple[str, ...] | list[str]) -> Callable[[random.Random], Said]:
    def draw(rng: random.Random) -> Said:
        value = rng.choice(options)
        return value, value

    return draw


def _integer(low: int, high: int, step: int = 1) -> Callable[[random.Random], Said]:
    def draw(rng: random.Random) -> Said:
        value = rng.randrange(low, high + 1, step)
        return str(value), value

    return draw


def _date(rng: random.Random) -> Said:
    day = datetime.date(2024, 1, 1) + datetime.timedelta(rng.randrange(1000))
    return f"{day.day} {day.strftime('%B')} {day.year}", day.isoformat()


def _time(rng: random.Random) -> Said:
    hour, minute = rng.randrange(24), rng.choice((0, 15, 30, 45))
    return f"{hour % 12 or 12}:{minute:02} {'a.m.' if hour < 12 else 'p.m.'}", f"{hour:02}:{minute:02}"


def _minutes(rng: random.Random) -> Said:
    hours, minutes = rng.randint(0, 3), rng.choice((5, 10, 15, 20, 30, 45))
    text = {0: "", 1: "one hour and "}.get(hours, f"{hours} hours and ") + f"{minutes} minutes"
    return text, 60 * hours + minutes


@dataclass(frozen=True)
class Argument:
    """One parameter of a function.

    Attributes:
        schema: its JSON schema.
        draw: draws a value, as text of a request and as argument.
        optional: phrase that mentions an optional argument in a request.
    """

    schema: Mapping[str, Any]
    draw: Callable[[random.Random], Said]
    optional: str = ""


@dataclass(frozen=True)
class Function:
    """Function that a request can call.

    Attributes:
        name: in the call.
        description: in its schema.
        arguments: by name.
        requests: phrasings with every required argument as a slot.

    Example:
        >>> TRAVEL[0].request(random.Random(0))[1]
        {'origin': 'Paris', 'destination': 'Prague', 'date': '2024-02-11'}
    """

    name: str
    description: str
    arguments: Mapping[str, Argument]
    requests: tuple[str, ...]

    def schema(self) -> dict[str, Any]:
        """JSON description of the function in a prompt."""
        required = [name for name, argument in self.arguments.items() if not argument.optional]
        properties = {name: dict(argument.schema) for name, argument in self.arguments.items()}
        parameters = {"type": "object", "properties": properties, "required": required}
        return {"name": self.name, "description": self.description, "parameters": parameters}

    def request(self, rng: random.Random) -> tuple[str, dict[str, Any]]:
        """Request in words with the arguments that it determines; an optional argument is left out with probability 1/2."""
        said, values, tail = {}, {}, ""
        for name, argument in self.arguments.items():
            if argument.optional and rng.random() < 0.5:
                continue
            said[name], values[name] = argument.draw(rng)
            # Nobody flies from Rome to Rome or converts euros into euros.
            while list(values.values()).count(values[name]) > 1:
                said[name], values[name] = argument.draw(rng)
            tail += " " + argument.optional.format(said[name]) if argument.optional else ""
        return rng.choice(self.requests).format(**said) + tail, values


def _string(description: str = "") -> dict[str, Any]:
    return {"type": "string", "description": description} if description else {"type": "string"}


_INT: dict[str, Any] = {"type": "integer"}
_CITY = Argument(_string(), _one_of(CITIES))
_PERSON = Argument(_string(), _one_of(NAMES))
_DAY = Argument(_string("date as YYYY-MM-DD"), _date)
_CLOCK = Argument(_string("time as HH:MM, 24 hours"), _time)


def _choice(options: tuple[str, ...], optional: str = "") -> Argument:
    return Argument({"type": "string", "enum": list(options)}, _one_of(options), optional)


_ROOMS = ("kitchen", "bedroom", "bathroom", "office", "hall", "cellar", "garage", "nursery")
_TOPICS = ["dentist", "rent", "team meeting", "piano lesson", "car service", "tax return", "birthday cake", "passport"]
_CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "SEK", "CAD", "INR")

TRAVEL = (
    Function("book_flight", "Book seats on a flight.", {
        "origin": _CITY, "destination": Argument(_string(), _one_of(CITIES)), "date": _DAY,
        "seats": Argument(_INT, _integer(1, 9), "I need {} seats in all."),
    }, ("Book a flight from {origin} to {destination} on {date}.", "I want to fly on {date}, to {destination} from {origin}.")),
    Function("reserve_hotel", "Reserve a hotel room.", {
        "city": _CITY, "check_in": _DAY, "nights": Argument(_INT, _integer(2, 14)),
        "stars": Argument(_INT, _integer(2, 5), "It should have {} stars."),
    }, ("Find me a hotel in {city} for {nights} nights from {check_in}.", "I stay in {city} for {nights} nights; I arrive on {check_in}.")),
    Function("get_weather", "Weather forecast for a city and day.", {
        "city": _CITY, "date": _DAY, "unit": _choice(("celsius", "fahrenheit"), "Give it in {}."),
    }, ("What will the weather be like in {city} on {date}?", "Do I need an umbrella in {city} on {date}?")),
    Function("rent_car", "Rent a car at a place.", {
        "city": _CITY, "days": Argument(_INT, _integer(2, 21)), "size": _choice(("small", "medium", "large", "van"), "The size should be {}."),
    }, ("I need a rental car in {city} for {days} days.", "Rent a car for {days} days in {city}.")),
)  # fmt: skip
OFFICE = (
    Function("create_event", "Put an event into the calendar.", {
        "title": Argument(_string(), _one_of(_TOPICS)), "date": _DAY, "start": _CLOCK,
        "duration": Argument({**_INT, "description": "minutes"}, _minutes, "It takes {}."),
    }, ('Put "{title}" into my calendar on {date} at {start}.', 'Add the event "{title}", {date}, beginning at {start}.')),
    Function("send_message", "Send a short message to someone.", {
        "recipient": _PERSON, "subject": Argument(_string(), _one_of(_TOPICS)),
        "priority": _choice(("low", "normal", "high"), "Its priority is {}."),
    }, ('Write to {recipient} with the subject "{subject}".', 'Send {recipient} a message, subject "{subject}".')),
    Function("set_reminder", "Remind the user later.", {
        "text": Argument(_string(), _one_of(_TOPICS)), "minutes": Argument(_INT, _minutes),
        "repeat": _choice(("daily", "weekly", "monthly"), "Repeat it {}."),
    }, ('Remind me of "{text}" in {minutes}.', 'In {minutes}, remind me: "{text}".')),
    Function("find_contact", "Look a person up.", {
        "name": _PERSON, "city": Argument(_string(), _one_of(CITIES), "The person lives in {}."),
        "field": _choice(("phone", "email", "address", "birthday")),
    }, ("What is the {field} of {name}?", "Look up {name} and give me the {field}.")),
)  # fmt: skip
HOME = (
    Function("set_light", "Switch or dim a lamp.", {
        "room": _choice(_ROOMS), "brightness": Argument({**_INT, "description": "percent"}, _integer(5, 100, 5)),
        "colour": _choice(tuple(COLOURS), "Make it {}."),
    }, ("Set the light in the {room} to {brightness} percent.", "Dim the {room} lamp to {brightness}%.")),
    Function("set_temperature", "Set a room's thermostat.", {
        "room": _choice(_ROOMS), "celsius": Argument({"type": "number"}, _integer(14, 27)),
        "until": Argument(_CLOCK.schema, _time, "Keep it until {}."),
    }, ("Heat the {room} to {celsius} degrees Celsius.", "I want {celsius} degrees Celsius in the {room}.")),
    Function("start_timer", "Start a kitchen timer.", {
        "minutes": Argument(_INT, _minutes), "label": Argument(_string(), _one_of(ITEMS), 'Label it "{}".'),
    }, ("Start a timer for {minutes}.", "Let me know when {minutes} have passed.")),
    Function("run_cleaner", "Send the robot vacuum.", {
        "room": _choice(_ROOMS), "weekday": _choice(WEEKDAYS), "start": _CLOCK,
        "mode": _choice(("quiet", "normal", "deep"), "Use the {} mode."),
    }, ("Vacuum the {room} every {weekday} at {start}.", "Clean the {room} on {weekday}, starting at {start}.")),
)  # fmt: skip
SHOP = (
    Function("order_items", "Order something in the shop.", {
        "item": Argument(_string("plural"), _one_of(ITEMS)), "quantity": Argument(_INT, _integer(2, 60)),
        "colour": _choice(tuple(COLOURS), "They should be {}."),
    }, ("Order {quantity} {item}.", "I would like to buy {quantity} {item}.")),
    Function("convert_money", "Convert an amount of money.", {
        "amount": Argument({"type": "number"}, _integer(20, 990, 5)), "source": _choice(_CURRENCIES),
        "target": _choice(_CURRENCIES), "date": Argument(_DAY.schema, _date, "Use the rate of {}."),
    }, ("How much is {amount} {source} in {target}?", "Convert {amount} {source} to {target}.")),
    Function("track_order", "Where an order is.", {
        "order": Argument(_INT, _integer(10_000, 99_999)), "language": _choice(("English", "German", "French"), "Reply in {}."),
    }, ("Where is my order {order}?", "I am still waiting for order {order}: where is it?")),
    Function("book_table", "Reserve a table in a restaurant.", {
        "city": _CITY, "people": Argument(_INT, _integer(2, 12)), "date": _DAY, "time": _CLOCK,
    }, ("A table for {people} in {city} on {date} at {time}, please.", "Reserve for {people} people, {date}, {time}, in {city}.")),
)  # fmt: skip
