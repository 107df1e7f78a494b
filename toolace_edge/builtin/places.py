"""Cities with their time zone and place on Earth, and when the sun rises there: a table and NOAA's formulas."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True, slots=True)
class Place:
    """Degrees north and east."""

    name: str
    zone: str
    latitude: float
    longitude: float


_TABLE = """
Amsterdam Europe/Amsterdam 52.37 4.90|Athens Europe/Athens 37.98 23.73|Auckland Pacific/Auckland -36.85 174.76
Bangkok Asia/Bangkok 13.76 100.50|Barcelona Europe/Madrid 41.39 2.17|Beijing Asia/Shanghai 39.90 116.41
Berlin Europe/Berlin 52.52 13.41|Bogota America/Bogota 4.71 -74.07|Boston America/New_York 42.36 -71.06
Brussels Europe/Brussels 50.85 4.35|Budapest Europe/Budapest 47.50 19.04|Buenos_Aires America/Argentina/Buenos_Aires -34.60 -58.38
Cairo Africa/Cairo 30.04 31.24|Cape_Town Africa/Johannesburg -33.92 18.42|Chicago America/Chicago 41.88 -87.63
Copenhagen Europe/Copenhagen 55.68 12.57|Dallas America/Chicago 32.78 -96.80|Delhi Asia/Kolkata 28.61 77.21
Denver America/Denver 39.74 -104.99|Dubai Asia/Dubai 25.20 55.27|Dublin Europe/Dublin 53.35 -6.26
Hanoi Asia/Ho_Chi_Minh 21.03 105.85|Helsinki Europe/Helsinki 60.17 24.94|Hong_Kong Asia/Hong_Kong 22.32 114.17
Honolulu Pacific/Honolulu 21.31 -157.86|Houston America/Chicago 29.76 -95.37|Istanbul Europe/Istanbul 41.01 28.98
Jakarta Asia/Jakarta -6.21 106.85|Jerusalem Asia/Jerusalem 31.77 35.21|Johannesburg Africa/Johannesburg -26.20 28.05
Karachi Asia/Karachi 24.86 67.00|Kyiv Europe/Kyiv 50.45 30.52|Lagos Africa/Lagos 6.52 3.38
Lima America/Lima -12.05 -77.04|Lisbon Europe/Lisbon 38.72 -9.14|London Europe/London 51.51 -0.13
Los_Angeles America/Los_Angeles 34.05 -118.24|Madrid Europe/Madrid 40.42 -3.70|Manila Asia/Manila 14.60 120.98
Melbourne Australia/Melbourne -37.81 144.96|Mexico_City America/Mexico_City 19.43 -99.13|Miami America/New_York 25.76 -80.19
Milan Europe/Rome 45.46 9.19|Montreal America/Toronto 45.50 -73.57|Moscow Europe/Moscow 55.76 37.62
Mumbai Asia/Kolkata 19.08 72.88|Munich Europe/Berlin 48.14 11.58|Nairobi Africa/Nairobi -1.29 36.82
New_York America/New_York 40.71 -74.01|Oslo Europe/Oslo 59.91 10.75|Paris Europe/Paris 48.86 2.35
Prague Europe/Prague 50.08 14.44|Reykjavik Atlantic/Reykjavik 64.15 -21.94|Rio_de_Janeiro America/Sao_Paulo -22.91 -43.17
Riyadh Asia/Riyadh 24.71 46.68|Rome Europe/Rome 41.90 12.50|San_Francisco America/Los_Angeles 37.77 -122.42
Santiago America/Santiago -33.45 -70.67|Sao_Paulo America/Sao_Paulo -23.55 -46.63|Seattle America/Los_Angeles 47.61 -122.33
Seoul Asia/Seoul 37.57 126.98|Shanghai Asia/Shanghai 31.23 121.47|Singapore Asia/Singapore 1.35 103.82
Stockholm Europe/Stockholm 59.33 18.07|Sydney Australia/Sydney -33.87 151.21|Taipei Asia/Taipei 25.03 121.57
Tehran Asia/Tehran 35.69 51.39|Tokyo Asia/Tokyo 35.68 139.69|Toronto America/Toronto 43.65 -79.38
Vancouver America/Vancouver 49.28 -123.12|Vienna Europe/Vienna 48.21 16.37|Warsaw Europe/Warsaw 52.23 21.01
Washington America/New_York 38.91 -77.04|Zurich Europe/Zurich 47.38 8.54
"""  # noqa: E501 - a table


# What may follow a city and a comma, by its time zone; by its name in countries of several zones.
_WHERE = """
Europe/Amsterdam netherlands holland nl|Europe/Athens greece gr|Pacific/Auckland new_zealand nz|Asia/Bangkok thailand th
Europe/Madrid spain es catalonia|Asia/Shanghai china cn prc|Europe/Berlin germany de bavaria|America/Bogota colombia co
Boston massachusetts ma|Europe/Brussels belgium be|Europe/Budapest hungary hu
America/Argentina/Buenos_Aires argentina ar|Africa/Cairo egypt eg|Africa/Johannesburg south_africa za
Chicago illinois il|Europe/Copenhagen denmark dk|Dallas texas tx
Asia/Kolkata india in maharashtra|Denver colorado co|Asia/Dubai uae united_arab_emirates ae|Europe/Dublin ireland ie
Asia/Ho_Chi_Minh vietnam vn|Europe/Helsinki finland fi|Asia/Hong_Kong china hk|Honolulu hawaii hi|Houston texas tx
Europe/Istanbul turkey turkiye tr|Asia/Jakarta indonesia id|Asia/Jerusalem israel il|Asia/Karachi pakistan pk
Europe/Kyiv ukraine ua|Africa/Lagos nigeria ng|America/Lima peru pe|Europe/Lisbon portugal pt
Europe/London england uk united_kingdom great_britain gb|Los_Angeles california ca|Asia/Manila philippines ph
Australia/Melbourne australia au victoria vic|America/Mexico_City mexico mx|Miami florida fl|Europe/Rome italy it
Montreal quebec qc canada|Europe/Moscow russia ru|Africa/Nairobi kenya ke|New_York new_york ny|Europe/Oslo norway no
Europe/Paris france fr|Europe/Prague czechia czech_republic cz|Atlantic/Reykjavik iceland is|America/Sao_Paulo brazil br
Asia/Riyadh saudi_arabia sa|San_Francisco california ca|America/Santiago chile cl|Seattle washington wa
Asia/Seoul south_korea korea kr|Asia/Singapore singapore sg|Europe/Stockholm sweden se
Australia/Sydney australia au new_south_wales nsw|Asia/Taipei taiwan tw|Asia/Tehran iran ir|Asia/Tokyo japan jp
Toronto ontario on canada|Vancouver british_columbia bc canada|Europe/Vienna austria at|Europe/Warsaw poland pl
Washington dc district_of_columbia|Europe/Zurich switzerland ch
"""
_STATES = ("usa", "us", "united states", "united states of america", "america")


def _plain(name: str) -> str:
    """Without accents, points and case."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return " ".join(ascii_only.lower().replace("_", " ").replace(".", "").split())


def _key(name: str) -> str:
    """Without what follows a comma: "São Paulo, Brazil" is "sao paulo"."""
    return _plain(name.split(",")[0]).removesuffix(" city")


def _read(entry: str) -> Place:
    name, zone, latitude, longitude = entry.split()
    return Place(name.replace("_", " "), zone, float(latitude), float(longitude))


_AROUND = {
    first if "/" in first else first.replace("_", " "): {_plain(word) for word in words}
    for first, *words in (entry.split() for entry in _WHERE.strip().replace("\n", "|").split("|"))
}
PLACES = {_key(place.name): place for place in map(_read, _TABLE.strip().replace("\n", "|").split("|"))}


def find_place(city: str) -> Place:
    """Raises ValueError with a sentence for a city that is not in the table, or not where it is said to be."""
    place = PLACES.get(_key(city))
    if place is None or not {_plain(part) for part in city.split(",")[1:]} <= _around(place):
        raise ValueError(f"{city!r} is not among the {len(PLACES)} cities known here")
    return place


def _around(place: Place) -> set[str]:
    """The states and countries that a city lies in."""
    found = {"", *_AROUND.get(place.name, ()), *_AROUND.get(place.zone, ())}
    in_the_states = place.name in _AROUND and "canada" not in found
    return found | set(_STATES) if in_the_states else found


def zone_of(place: Place) -> ZoneInfo:
    try:
        return ZoneInfo(place.zone)
    except ZoneInfoNotFoundError:
        raise ValueError("this system has no time zone data; `pip install tzdata` adds it") from None


def sun_times(place: Place, day: date) -> tuple[datetime, datetime] | None:
    """Sunrise and sunset in UTC, to about two minutes; None where the sun does not cross the horizon that day.

    NOAA's low-accuracy formulas: the fractional year gives declination and equation of time, the hour angle at a zenith
    of 90.833 degrees (refraction and the sun's radius) gives the times.
    """
    year = 2 * math.pi / 365 * (day.timetuple().tm_yday - 1)
    minutes_off = 229.18 * (
        0.000075 + 0.001868 * math.cos(year) - 0.032077 * math.sin(year)
        - 0.014615 * math.cos(2 * year) - 0.040849 * math.sin(2 * year)
    )  # fmt: skip
    declination = (
        0.006918 - 0.399912 * math.cos(year) + 0.070257 * math.sin(year) - 0.006758 * math.cos(2 * year)
        + 0.000907 * math.sin(2 * year) - 0.002697 * math.cos(3 * year) + 0.00148 * math.sin(3 * year)
    )  # fmt: skip
    latitude = math.radians(place.latitude)
    cosine = math.cos(math.radians(90.833)) / (math.cos(latitude) * math.cos(declination))
    cosine -= math.tan(latitude) * math.tan(declination)
    if not -1 <= cosine <= 1:
        return None
    half_day = 4 * math.degrees(math.acos(cosine))  # minutes
    noon = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    noon += timedelta(minutes=720 - 4 * place.longitude - minutes_off)
    return noon - timedelta(minutes=half_day), noon + timedelta(minutes=half_day)
