"""Units by name, and conversion between those of one kind."""

from __future__ import annotations

import re

# Kind -> unit -> (factor to the kind's base unit, other names). Plurals in -s are understood.
_UNITS: dict[str, dict[str, tuple[float, str]]] = {
    "length": {
        "meter": (1, "m metre"), "kilometer": (1000, "km kilometre"), "centimeter": (0.01, "cm centimetre"),
        "millimeter": (0.001, "mm millimetre"), "mile": (1609.344, "mi"), "yard": (0.9144, "yd"),
        "foot": (0.3048, "ft feet"), "inch": (0.0254, "in inches"), "nautical mile": (1852, "nmi"),
    },
    "mass": {
        "kilogram": (1, "kg kilo"), "gram": (0.001, "g"), "milligram": (1e-6, "mg"), "pound": (0.45359237, "lb lbs"),
        "ounce": (0.028349523125, "oz"), "stone": (6.35029318, "st"), "ton": (1000, "t tonne"),
    },
    "volume": {
        "liter": (1, "l litre"), "milliliter": (0.001, "ml millilitre"), "gallon": (3.785411784, "gal"),
        "quart": (0.946352946, "qt"), "pint": (0.473176473, "pt"), "cup": (0.2365882365, ""),
        "fluid ounce": (0.0295735295625, "floz fl_oz"), "tablespoon": (0.01478676478125, "tbsp"),
        "teaspoon": (0.00492892159375, "tsp"),
    },
    "time": {
        "second": (1, "s sec"), "minute": (60, "min"), "hour": (3600, "h hr"), "day": (86400, "d"),
        "week": (604800, ""),
    },
    "speed": {
        "meter per second": (1, "m/s metre_per_second"), "knot": (1852 / 3600, "kn kt"),
        "kilometer per hour": (1 / 3.6, "km/h kph kmh kilometre_per_hour"),
        "mile per hour": (0.44704, "mph mi/h"),
    },
    "area": {
        "square meter": (1, "m2 m² square_metre sq_m"), "square kilometer": (1e6, "km2 km² square_kilometre sq_km"),
        "square foot": (0.09290304, "ft2 ft² sqft sq_ft"), "square mile": (2589988.110336, "mi2 mi² sq_mi"),
        "acre": (4046.8564224, ""), "hectare": (10000, "ha"),
    },
    "data": {
        "byte": (1, "b"), "kilobyte": (1e3, "kb"), "megabyte": (1e6, "mb"), "gigabyte": (1e9, "gb"),
        "terabyte": (1e12, "tb"), "kibibyte": (2**10, "kib"), "mebibyte": (2**20, "mib"), "gibibyte": (2**30, "gib"),
    },
    "energy": {
        "joule": (1, "j"), "kilojoule": (1000, "kj"), "calorie": (4.184, "cal"), "kilocalorie": (4184, "kcal"),
        "kilowatt hour": (3.6e6, "kwh"),
    },
}  # fmt: skip
_TEMPERATURES = {"celsius": "celsius", "c": "celsius", "fahrenheit": "fahrenheit", "f": "fahrenheit"}
_TEMPERATURES |= {"kelvin": "kelvin", "k": "kelvin", "centigrade": "celsius"}

_BY_NAME: dict[str, tuple[str, float, str]] = {}
for _kind, _units in _UNITS.items():
    for _unit, (_factor, _names) in _units.items():
        for _name in (_unit, *(_one.replace("_", " ") for _one in _names.split())):
            _BY_NAME[_name] = (_kind, _factor, _unit)


def convert(value: float, from_unit: str, to_unit: str) -> tuple[float, str]:
    """The value in the other unit, and that unit's name. Raises ValueError with a sentence."""
    source, target = _temperature(from_unit), _temperature(to_unit)
    if source and target:
        return _convert_temperature(value, source, target), target
    kind, factor, _ = _find(from_unit)
    other_kind, other_factor, name = _find(to_unit)
    if kind != other_kind:
        raise ValueError(f"{from_unit} is a unit of {kind}, {to_unit} one of {other_kind}")
    return value * factor / other_factor, name


def _find(unit: str) -> tuple[str, float, str]:
    if _temperature(unit):
        return "temperature", 1, _temperature(unit)
    if re.fullmatch(r"[KMGT]b", unit.strip()):
        raise ValueError(f"{unit!r} may mean bits; write {unit.strip()[0]}B, or the unit's whole name")
    words = unit.strip().lower().replace("_", " ").rstrip(".")
    for name in (words, words.removesuffix("s"), words.removesuffix("es"), words.replace("s per ", " per ", 1)):
        if name in _BY_NAME:
            return _BY_NAME[name]
    feet = words.replace("feet", "foot")
    if feet in _BY_NAME:
        return _BY_NAME[feet]
    raise ValueError(f"{unit!r} is not a unit known here; known are units of {', '.join(_UNITS)} and temperature")


def _temperature(unit: str) -> str:
    words = unit.lower().replace("degrees", "").replace("degree", "").replace("°", "").strip()
    return _TEMPERATURES.get(words, "")


def _convert_temperature(value: float, from_unit: str, to_unit: str) -> float:
    celsius = {"celsius": value, "fahrenheit": (value - 32) * 5 / 9, "kelvin": value - 273.15}[from_unit]
    if celsius < -273.15 - 1e-9:
        raise ValueError(f"{value:g} {from_unit} is below absolute zero")
    return {"celsius": celsius, "fahrenheit": celsius * 9 / 5 + 32, "kelvin": celsius + 273.15}[to_unit]
