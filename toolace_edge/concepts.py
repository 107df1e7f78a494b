"""Words that people and tools use for the same thing: "will it rain" is a question for a weather forecast.

Each line is one concept, a word may belong to several. Written by hand from requests of the training data that found no
tool by their own words; docs/retrieval.md says what it is worth. English only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache

from toolace_edge.terms import words

CONCEPTS = """
weather forecast outside rainfall rain rainy raining snow snowy storm stormy wind windy sun sunny cloud cloudy \
humid humidity chilly chill cold hot warm temperature temperate umbrella freezing freeze fog foggy climate \
degree celsius fahrenheit overcast blizzard drizzle
music song track tune playlist album artist band singer hear listen listening play media audio
movie film cinema theater theatre showtime screening actor starring playing showing
show series episode tv television program programme saga
work media movie film picture painting show series saga program programme tv television book novel album song track \
soundtrack game
book reserve reservation booking spot seat appointment schedule
restaurant eat dine dining dinner lunch breakfast table food cuisine meal pub bar
alarm wake ring
remind reminder remember forget
calendar event appointment meeting schedule agenda date busy free availability
calendar event meeting appointment meet birthday conference invitation attendee
list todo task item note shopping grocery chore planner tracker scheduler checklist
email mail inbox message
message text sms chat dm direct
call phone dial telephone
buy purchase order get shop
order food delivery takeaway pizza menu drink coffee cappuccino latte mocha espresso tea beverage cortado macchiato \
americano chai decaf iced cafe
flight fly plane airline airport
taxi cab ride uber lyft car drive
car vehicle drive rental rent
car vehicle driver driving seat mirror lane steering cruise dashboard defrost defroster blind windshield wiper \
headlight sunroof engine passenger
train rail railway bus transit transport
hotel stay room accommodation inn lodge motel
house home apartment property rent flat housing estate
trip travel journey tour visit attraction festival fun sight sightseeing suggestion
event concert game match gig show play
game play fun puzzle
thermostat temperature heat heating cool cooling ac hvac climate warm
volume loud louder quiet mute sound hear
lock unlock door
open close shut cover blind curtain shade garage
vacuum sweep clean cleaner sweeper robot
start begin resume launch
stop end cancel halt pause quit
delete remove clear erase cancel
add create make new insert put save
change update modify edit set adjust
find search look lookup seek locate discover
get retrieve fetch show list give tell check view display
money pay payment transfer send fund bank cash
balance account bank
card credit debit
currency exchange convert conversion dollar euro pound yen rate gbp usd eur money foreign
convert conversion unit measure measurement
stock share market price quote ticker
price cost value worth expensive cheap fee charge
crypto cryptocurrency bitcoin coin token ethereum
news headline article story latest update gossip trending breaking election
joke funny laugh humor
define definition mean meaning dictionary word describe description explain
translate translation language spanish french german say speak
time clock hour zone timezone date day
timer countdown minute
direction route map navigate navigation traffic distance far way transit
traffic congestion congested jam street road
location place address near nearby local area
calculate calculator calculation compute math sum percentage times plus minus divide divided multiply multiplied
recipe cook ingredient cooking dish
podcast radio audiobook station fm am channel tune
contact person friend people
social tweet twitter facebook post instagram status
video youtube clip watch
image picture photo photograph
file document folder
website web site page url link domain
doctor dentist physician medical health clinic hospital symptom disease patient
job work career employment vacancy
paper research article study publication journal scholar arxiv
search google bing wikipedia web information question
school education course class learn student
sport team player league match football soccer basketball score
review rating rate star feedback
ticket pass admission
random generate generator
user profile account member
recommend recommendation suggest suggestion
weight height bmi body
loan mortgage interest repay apr annual rate
fraud suspicious scam unauthorized stole stolen lost questionable charge
bill owe owed utility electric electricity due
spend spent spending expense history
maintenance mechanic repair service oil engine
nutrition healthy calorie diet protein
vaccine vaccination shot immunization
vacation pto leave holiday sick off
tax income salary
color colour
quote saying motivation
fact trivia
horoscope zodiac astrology
verify validate check confirm valid
password security secure
ship shipping package parcel track tracking delivery
product item goods catalog
cash atm withdraw withdrawal
identity verification passport
light lamp bulb brightness dim bright
turn switch power activate deactivate disable enable toggle
device entity appliance kitchen bedroom bathroom hallway upstairs downstairs basement living room home area floor
device entity appliance light lamp fan heater curtain sensor
entity state status sensor detector door window garage smoke leak humidity battery charging closed open
"""


@cache
def concepts() -> Mapping[str, tuple[str, ...]]:
    """The concepts of each stem, each by its number."""
    found: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(CONCEPTS.strip().splitlines()):
        for word in dict.fromkeys(words(line)):
            found[word].append(str(number))
    return {word: tuple(numbers) for word, numbers in found.items()}
